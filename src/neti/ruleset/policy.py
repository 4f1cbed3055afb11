"""(Settings, Fleet, this host) -> what the kernel should hold. Pure: no I/O, no clock, no registry.

Two functions matter. ``structure`` writes the rules, in the order that docs/how-it-works.md
explains; ``elements_of`` says which few elements one member means to this host, so that a change of
one member is a change of those and of nothing else.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses
from typing import Final

from neti.model import Host, IPAddress, Member, Reach, Site
from neti.model.settings import IPNetwork, OpenPort, Settings
from neti.ruleset.objects import SEEN_SECONDS, SEEN_SIZE, Chain, SetName, Structure
from neti.ruleset.policy_record import record_chains

# Destination NAT before iptables' own -100, so that a container's published port on an overlay
# address is seen by its real address; judgement a little before filter 0, so that what another
# table drops is still recorded here.
NAT_PRIORITY: Final = -105
FILTER_PRIORITY: Final = -10
# Interfaces of these kinds can lead to this machine's own containers; see Surroundings.
CONTAINER_KINDS: Final = '{ "bridge", "veth" }'
# Printable ASCII without the quote, the asterisk and the backslash.
PLAIN_INTERFACE: Final = re.compile(r"[!#-)+-\[\]-~]+")
# What the rules fill by themselves. A full set records no more and blocks nothing.
_RECORDED: Final = f"size {SEEN_SIZE}; flags dynamic,timeout; timeout {SEEN_SECONDS}s"
# Every port of both protocols fits, so that no scan can fill it.
_ALL_PORTS: Final = f"size 131072; flags dynamic,timeout; timeout {SEEN_SECONDS}s"
_PACED: Final = f"size {SEEN_SIZE}; flags dynamic,timeout; timeout 600s"
# IPv4's and IPv6's headers with TCP's (RFC 9293, 3.7.1): what an MTU leaves for a segment.
_HEADERS: Final[Mapping[str, int]] = {"ip": 40, "ip6": 60}
# Metadata and time of EC2 (both families), Google, Azure; Azure's DNS, DHCP and health probes.
METADATA: Final = (
    IPv4Address("169.254.169.254"),
    IPv4Address("169.254.169.253"),
    IPv4Address("169.254.169.123"),
    IPv4Address("168.63.129.16"),
    IPv6Address("fd00:ec2::254"),
    IPv6Address("fd00:ec2::253"),
    IPv6Address("fd00:ec2::123"),
    IPv6Address("fd20:ce::254"),
)
PUBLIC_ROAD_MTU: Final = 1500  # what the internet carries, whatever a site's own network does

SETS: Final[tuple[tuple[str, str], ...]] = (
    ("map overlay", "type ipv4_addr : ipv4_addr"),
    ("set peers4", "type ipv4_addr"),
    ("set peers6", "type ipv6_addr"),
    ("set revoked4", "type ipv4_addr; flags timeout"),
    ("set revoked6", "type ipv6_addr; flags timeout"),
    ("set across4", "type ipv4_addr"),  # members whose road from here is the internet
    ("set across6", "type ipv6_addr"),
    ("set tcp_listening", "type inet_service"),  # ports of this machine's own sockets
    ("set udp_listening", "type inet_service"),
    ("set grace", "typeof meta nfproto; flags timeout"),
    ("set heard4", f"type ipv4_addr . inet_proto . inet_service; {_RECORDED}"),
    ("set heard6", f"type ipv6_addr . inet_proto . inet_service; {_RECORDED}"),
    ("set seen4", f"type ipv4_addr . inet_proto . inet_service; {_RECORDED}"),
    ("set seen6", f"type ipv6_addr . inet_proto . inet_service; {_RECORDED}"),
    ("set others4", f"type ipv4_addr . inet_proto; {_RECORDED}"),
    ("set others6", f"type ipv6_addr . inet_proto; {_RECORDED}"),
    ("set paced4", f"type ipv4_addr; {_PACED}"),
    ("set paced6", f"type ipv6_addr; {_PACED}"),
    ("set forwarded", f"type inet_proto . inet_service; {_ALL_PORTS}"),
    ("set redirected", f"type inet_proto . inet_service . inet_service; {_ALL_PORTS}"),
    ("map enforce", "typeof meta nfproto : verdict; flags timeout"),
    ("counter admitted", "packets 0 bytes 0"),  # packets from members that were let in as such
    # First packets of members' connections, where we let them in and behind all other programs.
    ("counter asked", "packets 0 bytes 0"),
    ("counter arrived", "packets 0 bytes 0"),
    ("counter judged", "packets 0 bytes 0"),  # packets that got as far as the verdict
    # Packets that the record had no room for: to ports where somebody listens, and the rest.
    ("counter unheard", "packets 0 bytes 0"),
    ("counter unseen", "packets 0 bytes 0"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the policy needs to know of this machine beside its identity.

    ``uplinks``: interfaces with a default route or the private address. ``strangers``: bridges and
    veths that are no uplink, and lead to others than this machine's own containers all the same.
    ``indexes``: of those among both whose name nft cannot say. ``local_ports``: the range from
    which this machine takes ports for what it opens itself. ``ssh_untracked``: no other table
    judges input, so SSH may bypass connection tracking. ``containers``: what is taken for the own
    containers, for people; the rules go by kind, so that a new one needs no new rules.
    """

    uplinks: tuple[str, ...]
    ssh_untracked: bool
    strangers: tuple[str, ...] = ()
    indexes: tuple[tuple[str, int], ...] = ()
    local_ports: tuple[int, int] = (32768, 60999)
    site: str = ""  # this host's own
    containers: tuple[str, ...] = field(default=(), compare=False)

    @property
    def outside(self) -> tuple[str, ...]:
        """Interfaces that are never taken for containers', whatever their kind."""
        return tuple(dict.fromkeys((*self.uplinks, *self.strangers)))


@dataclass(frozen=True, slots=True)
class Element:
    where: SetName
    key: str
    value: str = ""


def elements_of(member: Member, *, host: Host, sites: Mapping[str, Site]) -> Iterator[Element]:
    """What ``member`` means to ``host``: where its overlay address leads and who is let in.

    A member without an address that this host could reach gets no overlay element: its overlay
    address is then refused at once, like one that nobody holds.
    """
    if member.id == host.id:
        return  # see own_elements: what the registry says of this host changes nothing here
    site = sites.get(member.site)
    near = member.site == host.site
    by_private = near or (site is not None and site.reached_by is Reach.PRIVATE)
    target = member.private if by_private else member.public
    if target is not None:
        yield Element("overlay", str(member.overlay), str(target))
    ranges = () if near else clamped_ranges(site)
    clamped = not near and road_mtu(site, sites.get(host.site)) is not None
    for address in admitted_addresses(member, host=host, sites=sites):
        if isinstance(address, IPv6Address):
            yield Element("peers6", str(address))
            if clamped:
                yield Element("across6", str(address))
        else:
            yield Element("peers4", str(address))
            if clamped and not any(address in network for network in ranges):
                yield Element("across4", str(address))


def admitted_addresses(
    member: Member, *, host: Host, sites: Mapping[str, Site]
) -> Iterator[IPAddress]:
    """The addresses from which ``member`` can come to ``host``, and is let in. Another site's
    private address is not among them: here it may be somebody else's, as private ranges overlap."""
    site = sites.get(member.site)
    near = member.site == host.site
    by_private = near or (site is not None and site.reached_by is Reach.PRIVATE)
    if by_private:
        yield member.private
    if member.public is not None:
        yield member.public
    for address in member.more:
        if isinstance(address, IPv6Address) or (
            by_private or site is None or not any(address in n for n in site.private)
        ):
            yield address


def road_mtu(site: Site | None, own: Site | None) -> int | None:
    """What the road to another site carries; None: as much as the uplink, as far as is known."""
    across = site.mtu if site is not None else None
    if across is None and (site is None or site.reached_by is Reach.PUBLIC):
        across = PUBLIC_ROAD_MTU
    here = own.mtu if own is not None else None
    return min((mtu for mtu in (across, here) if mtu is not None), default=None)


def clamped_ranges(site: Site | None) -> tuple[IPv4Network, ...]:
    """The ranges in which other sites meet this one's members: they need no element each."""
    if site is None:
        return ()
    return site.private if site.reached_by is Reach.PRIVATE else site.public


def never_revoked(
    host: Host, own: Iterable[IPAddress], others: Iterable[IPAddress]
) -> frozenset[str]:
    """Addresses that must not become removed sources, whoever claimed them in the registry and
    then let go of them. ``own``: this machine's. ``others``: gateways, resolvers, ZooKeeper's."""
    mine = (host.private, *((host.public,) if host.public is not None else ()), *host.more)
    return frozenset(map(str, (*METADATA, *mine, *own, *others)))


def own_elements(host: Host, overlay: IPv4Address) -> Iterator[Element]:
    """A host reaches itself by its own overlay address."""
    yield Element("overlay", str(overlay), str(host.private))


def structure(settings: Settings, surroundings: Surroundings) -> Structure:
    """All chains. The order of the rules in ``input`` is the promise; see docs/how-it-works.md."""
    whose = _Whose(settings, surroundings)
    return Structure(
        SETS,
        (
            *_untracked_ssh(settings, surroundings),
            *_translation(settings, whose),
            _refusal(),
            *_clamp(settings, surroundings),
            _output(settings, surroundings),
            *record_chains(whose.toward_container),
            *_opened(settings),
            *_judge(settings),
            *_removed(surroundings),
            _input(settings, surroundings, whose),
            _first_packets("first_asked", "asked", None),
            _first_packets(
                "first_arrived",
                "arrived",
                f"type filter hook input priority {_LAST}; policy accept;",
            ),
            *_published(settings),
            *_forward(settings, surroundings, whose),
        ),
    )


# --- chains ---


def _untracked_ssh(settings: Settings, surroundings: Surroundings) -> Iterator[Chain]:
    """SSH around connection tracking, so that it works when that table is full. Both directions:
    a reply that is tracked while its request is not would be refused with the table full."""
    if not surroundings.ssh_untracked or not settings.ssh_whitelist:
        return
    inward, outward = [], []
    port = settings.ssh_port
    for word, networks in _by_family(settings.ssh_whitelist):
        listed = _listed(networks)
        # The port first: every packet passes here, and nearly every one has another.
        ours = f"{word} saddr {listed} fib daddr type local"
        inward.append(f'tcp dport {port} iif != "lo" {ours} notrack accept')
        outward.append(f'tcp sport {port} oif != "lo" {word} daddr {listed} notrack accept')
    yield Chain(
        "untracked_in", "type filter hook prerouting priority raw; policy accept;", tuple(inward)
    )
    yield Chain(
        "untracked_out", "type filter hook output priority raw; policy accept;", tuple(outward)
    )


def _translation(settings: Settings, whose: "_Whose") -> Iterator[Chain]:
    rules = []
    if settings.nat_overrides:
        pairs = ", ".join(f"{k} : {v}" for k, v in sorted(settings.nat_overrides.items()))
        rules.append(f"dnat ip to ip daddr map {{ {pairs} }}")
    rules.append("dnat ip to ip daddr map @overlay")
    yield Chain(
        "translate_output",
        f"type nat hook output priority {NAT_PRIORITY}; policy accept;",
        tuple(rules),
    )
    # Only for this machine's own containers: translating what comes from anywhere else would make
    # the host a relay for strangers.
    yield Chain("translate", None, tuple(rules))
    yield Chain(
        "translate_containers",
        f"type nat hook prerouting priority {NAT_PRIORITY}; policy accept;",
        (f"{whose.from_container} goto translate",) if whose.from_container else (),
    )


def _refusal() -> Chain:
    return Chain(
        "refuse",
        None,
        ("meta l4proto tcp reject with tcp reset", "reject with icmp host-unreachable"),
    )


def _output(settings: Settings, surroundings: Surroundings) -> Chain:
    """The only thing ever refused on the way out: an overlay address that nobody holds.

    The test stands before any exclusion of lo, because the overlay's route leads there.
    """
    return Chain(
        "output",
        f"type filter hook output priority {FILTER_PRIORITY}; policy accept;",
        (*_to_clamp(settings, surroundings), f"ip daddr {settings.overlay_subnet} goto refuse"),
    )


def _clamp(settings: Settings, surroundings: Surroundings) -> Iterator[Chain]:
    """A connection to another site is told what the road between carries, at its first packet.

    Where the hosts' own networks carry more, and somebody filters ICMP, small requests work and
    large ones hang. Both directions, because each side's SYN limits what the *other* side sends,
    and that side may have no rule. The kernel only ever lowers what the packet says.
    """
    if not _crosses(settings, surroundings):
        return
    own = settings.sites.get(surroundings.site)
    roads: dict[int, list[IPv4Network]] = {}
    narrowest = []
    for site in settings.sites.values():
        mtu = road_mtu(site, own) if site.name != surroundings.site else None
        if mtu is not None:
            narrowest.append(mtu)
            roads.setdefault(mtu, []).extend(clamped_ranges(site))
    rules = []
    for mtu, ranges in sorted(roads.items()):
        for _, networks in _by_family(ranges):
            for end in ("saddr", "daddr"):
                rules += [f"ip {end} {_listed(networks)} {_segment('ip', mtu)}"]
    # Who is in these sets has no range that says how narrow its own road is.
    for word, where in (("ip", "across4"), ("ip6", "across6")):
        for end in ("saddr", "daddr"):
            segment = _segment(word, min(narrowest, default=PUBLIC_ROAD_MTU))
            rules.append(f"{word} {end} @{where} {segment}")
    yield Chain("clamp", None, tuple(rules))


def _segment(word: str, mtu: int) -> str:
    return f"tcp option maxseg size set {mtu - _HEADERS[word]}"


def _to_clamp(settings: Settings, surroundings: Surroundings) -> Iterator[str]:
    if _crosses(settings, surroundings):
        yield "tcp flags & (syn|rst) == syn jump clamp"


def _crosses(settings: Settings, surroundings: Surroundings) -> bool:
    return any(name != surroundings.site for name in settings.sites)


def _opened(settings: Settings) -> Iterator[Chain]:
    rules = [rule for open_port in settings.open_ports for rule in _open(open_port)]
    if rules:
        yield Chain("opened", None, tuple(rules))


def _judge(settings: Settings) -> Iterator[Chain]:
    """What is left when nobody vouches for the source: the last word on a packet."""
    limit = "limit rate 50/second burst 100 packets accept"
    yield Chain(
        "verdict",
        None,
        (
            (
                "icmp type { echo-request, destination-unreachable, time-exceeded, "
                f"parameter-problem }} {limit}"
            ),
            (
                "icmpv6 type { echo-request, destination-unreachable, packet-too-big, "
                f"time-exceeded, parameter-problem }} {limit}"
            ),
            # Connections from before connection tracking ran show as mid-stream segments: plain
            # ACKs that are new to it. A removed peer is never given this grace. The flags come
            # before the set: nft 1.1 takes a protocol looked up in one for a conflict.
            *(
                f"{word} saddr != @{revoked} tcp flags & (fin|syn|rst|ack) == ack "
                "meta nfproto @grace accept"
                for word, revoked in (("ip", "revoked4"), ("ip6", "revoked6"))
            ),
            "jump record",
            'counter name "judged" meta nfproto vmap @enforce',
        ),
    )
    opened = settings.open_ports
    yield Chain("judge", None, (*(("jump opened",) if opened else ()), "goto verdict"))
    # open_ports opens the host's own ports and those that it publishes, not every container's.
    published = ("ct status dnat jump opened",) if opened else ()
    yield Chain("judge_forwarded", None, (*published, "goto verdict"))


def _removed(surroundings: Surroundings) -> Iterator[Chain]:
    """Sources that were members until lately. What this host opened to one of them is answered: an
    honest address passes on, to a database for one, and a hostile member may have claimed any. All
    else of theirs is judged, the connections that they opened included.

    Who opened a connection is what conntrack saw first, and that may be the wrong end where the
    connection is older than tracking. So the port decides as well: what comes to a port where this
    host listens is no answer, and what comes to one from the range of its own callers, where nobody
    listens, can only be one.
    """
    span = "{}-{}".format(*surroundings.local_ports)
    answered = "ct state established,related ct direction reply"
    yield Chain(
        "answers",
        None,
        (
            "meta l4proto != { tcp, udp } accept",
            "ct status snat accept",
            "tcp dport != @tcp_listening accept",
            "udp dport != @udp_listening accept",
            f"udp dport {span} accept",
            "udp sport 1-1023 accept",  # from a service, to a caller with a port of its own
            "goto judge",
        ),
    )
    yield Chain(
        "removed",
        None,
        (
            f"{answered} goto answers",
            f"tcp flags & (syn|ack) != syn tcp dport {span} tcp dport != @tcp_listening accept",
            f"udp dport {span} udp dport != @udp_listening accept",
            "goto judge",
        ),
    )
    # In a container this host cannot see who listens.
    yield Chain(
        "answers_forwarded",
        None,
        (
            "meta l4proto != { tcp, udp } accept",
            "ct status snat accept",
            f"meta l4proto {{ tcp, udp }} th dport {span} accept",
            "udp sport 1-1023 accept",
            "goto judge_forwarded",
        ),
    )
    yield Chain(
        "removed_forwarded",
        None,
        (f"{answered} goto answers_forwarded", "goto judge_forwarded"),
    )


def _open(port: OpenPort) -> Iterator[str]:
    """A port is the one that the client asked for: a redirected or published one keeps its name."""
    span = str(port.first) if port.first == port.last else f"{port.first}-{port.last}"
    # Only in the original direction: what a removed peer answers is no use of our port.
    asked = f"meta l4proto {port.proto} ct direction original ct original proto-dst {span}"
    untracked = f"ct state untracked {port.proto} dport {span}"
    if not port.sources:
        yield f"{asked} accept"
        yield f"{untracked} accept"
    for word, networks in _by_family(port.sources):
        yield f"{word} saddr {_listed(networks)} {asked} accept"
        yield f"{word} saddr {_listed(networks)} {untracked} accept"


def _ssh(settings: Settings) -> Iterator[str]:
    for word, networks in _by_family(settings.ssh_whitelist):
        yield f"tcp dport {settings.ssh_port} {word} saddr {_listed(networks)} accept"


_FIRST: Final = "tcp flags & (fin|syn|rst|ack) == syn"
_LAST: Final = 1000  # behind every usual priority of a filter

_PEERS: Final = (
    'ip saddr @peers4 counter name "admitted" accept',
    'ip6 saddr @peers6 counter name "admitted" accept',
)


def _vouched(settings: Settings, *, removed: str) -> Iterator[str]:
    """Trusted networks, sources just removed, then what is already established. Peers first."""
    for word, networks in _by_family(settings.trusted):
        yield f"{word} saddr {_listed(networks)} accept"
    yield f"ip saddr @revoked4 goto {removed}"
    yield f"ip6 saddr @revoked6 goto {removed}"
    yield "ct state established,related accept"


def _input(settings: Settings, surroundings: Surroundings, whose: "_Whose") -> Chain:
    return Chain(
        "input",
        f"type filter hook input priority {FILTER_PRIORITY}; policy accept;",
        (
            'iif "lo" accept',
            *_to_clamp(settings, surroundings),
            f"{_FIRST} jump first_asked",
            *_ssh(settings),
            # Nearly all packets are theirs, and all rules before the removed sources only accept.
            *_PEERS,
            # RFC 4861: hop limit 255 proves that the neighbour is on this link.
            (
                "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, "
                "nd-neighbor-advert, nd-redirect } ip6 hoplimit 255 accept"
            ),
            (
                "icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, "
                "mld2-listener-report } ip6 saddr fe80::/10 accept"
            ),
            # IPv4's counterpart (RFC 3376: TTL 1): without answers to queries, switches and routers
            # stop sending this host the groups that it joined.
            "ip protocol igmp ip ttl 1 ip daddr 224.0.0.0/4 accept",
            # DHCP's answers are not "established": they answer a broadcast or a multicast.
            "udp sport 67 udp dport 68 accept",
            "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept",
            *((f"{whose.from_container} accept",) if whose.from_container else ()),
            *_vouched(settings, removed="removed"),
            "goto judge",
        ),
    )


def _first_packets(name: str, counter: str, hook: str | None) -> Chain:
    """Counted where our own table lets them in, and once more after everybody's: what is missing
    there, another program's table dropped. See ``neti.monitoring.arrivals``."""
    from_members = (
        f'ip saddr @peers4 counter name "{counter}"',
        f'ip6 saddr @peers6 counter name "{counter}"',
    )
    if hook is None:
        return Chain(name, None, from_members)
    return Chain(name, hook, ('iif "lo" accept', *(f"{_FIRST} {rule}" for rule in from_members)))


def _published(settings: Settings) -> Iterator[Chain]:
    rules = (
        *_PEERS,
        *_vouched(settings, removed="removed_forwarded"),
        "goto judge_forwarded",
    )
    yield Chain("published", None, rules)


def _forward(settings: Settings, surroundings: Surroundings, whose: "_Whose") -> Iterator[Chain]:
    """Whatever is on its way to an own container, and does not come from one, is judged: by an
    uplink, a second network card or a tunnel alike."""
    own = (f"{whose.from_container} accept",) if whose.from_container else ()
    yield Chain("toward_containers", None, (*own, "goto published"))
    yield Chain(
        "forward",
        f"type filter hook forward priority {FILTER_PRIORITY}; policy accept;",
        (
            *_to_clamp(settings, surroundings),
            f"ip daddr {settings.overlay_subnet} goto refuse",
            *(f"{leaving} goto toward_containers" for leaving in whose.toward_container),
        ),
    )


# --- whose an interface is ---


class _Whose:
    """Conditions in nft's words: a packet comes from an own container, or leaves to one.

    ``from_container`` is empty where no interface may count as one. Whatever nft cannot name is
    taken for a stranger's as far as it comes from there, and for a container's as far as it leads
    there: both ways it is judged.
    """

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        names, indexes, named = _sayable(surroundings)
        quoted = ", ".join(f'"{name}"' for name in names)
        inward, outward = f"iifname != {{ {quoted} }}", f"oifname != {{ {quoted} }}"
        if indexes:
            listed = ", ".join(map(str, indexes))
            inward += f" iif != {{ {listed} }}"
            outward += f" oif != {{ {listed} }}"
        own, toward = f"meta iifkind {CONTAINER_KINDS}", [f"meta oifkind {CONTAINER_KINDS}"]
        if settings.container_interfaces is not None:
            chosen = _without_covered(_in_quotes(n) or "" for n in settings.container_interfaces)
            words = ", ".join(f'"{name}"' for name in chosen)
            own = f"iifname {{ {words} }}" if chosen else ""
            toward += [f"oifname {{ {words} }}"] if chosen else []
        self.from_container = f"{inward} {own}" if own and named else ""
        self.toward_container = tuple(f"{outward} {condition}" for condition in toward)


def _sayable(surroundings: Surroundings) -> tuple[list[str], list[int], bool]:
    """Names and indexes of the interfaces that are no containers', and whether that is all."""
    names, indexes, complete = ["lo"], [], True
    known = dict(surroundings.indexes)
    for interface in surroundings.outside:
        said = _in_quotes(interface)
        if said == interface:
            names.append(said)
        elif interface in known:
            indexes.append(known[interface])
        elif said is not None:
            names.append(said)
        else:
            complete = False
    return _without_covered(names), sorted(set(indexes)), complete


def _without_covered(names: Iterable[str]) -> list[str]:
    """nft refuses a name beside a pattern that holds it, in one set."""
    every = [name for name in dict.fromkeys(names) if name]
    patterns = [name[:-1] for name in every if name.endswith("*")]
    return [
        name for name in every if not any(name.startswith(p) and name != f"{p}*" for p in patterns)
    ]


# --- words ---


def _by_family(networks: Iterable[IPNetwork]) -> Iterator[tuple[str, list[IPNetwork]]]:
    """``ip`` with the IPv4 networks, ``ip6`` with the IPv6 ones, each merged; empty ones left out.

    Merged because nft refuses overlapping intervals in one anonymous set.
    """
    every = list(networks)
    v4: list[IPNetwork] = list(collapse_addresses(n for n in every if isinstance(n, IPv4Network)))
    v6: list[IPNetwork] = list(collapse_addresses(n for n in every if isinstance(n, IPv6Network)))
    if v4:
        yield "ip", v4
    if v6:
        yield "ip6", v6


def _listed(networks: Iterable[IPNetwork]) -> str:
    return "{ " + ", ".join(map(str, networks)) + " }"


def sayable(interface: str) -> bool:
    """Whether nft can name exactly this interface."""
    return PLAIN_INTERFACE.fullmatch(interface) is not None


def _in_quotes(interface: str) -> str | None:
    """The name as nft can say it; None where it cannot say even a beginning of it.

    The kernel allows nearly every byte in an interface's name, and nft has no escapes. A name that
    it cannot say becomes all that begin like it. An asterisk at the end is nft's own pattern.
    """
    plain = PLAIN_INTERFACE.match(interface)
    if plain is None:
        return None
    rest = interface[len(plain[0]) :]
    return interface if not rest else f"{plain[0]}*"


def cross_address(member: Member, *, host: Host, sites: Mapping[str, Site]) -> IPv4Address | None:
    """The real address by which ``host`` reaches ``member``; None when there is none."""
    for element in elements_of(member, host=host, sites=sites):
        if element.where == "overlay":
            return IPv4Address(element.value)
    return None
