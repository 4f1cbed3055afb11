"""(Settings, Fleet, this host) -> what the kernel should hold. Pure: no I/O, no clock, no registry.

Two functions matter. ``structure`` writes the rules, in the order that docs/how-it-works.md
explains; ``elements_of`` says which few elements one member means to this host, so that a change of
one member is a change of those and of nothing else.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses
from typing import Final

from neti.errors import DataplaneError
from neti.model import Host, Member, Reach, Site
from neti.ruleset import SEEN_SECONDS, Chain, SetName, Structure
from neti.settings import IPNetwork, OpenPort, Settings

# Destination NAT before iptables' own -100, so that a container's published port on an overlay
# address is seen by its real address; judgement a little before filter 0, so that what another
# table drops is still recorded here.
NAT_PRIORITY: Final = -105
FILTER_PRIORITY: Final = -10
# Interfaces of this kind that are not an uplink lead to this machine's own containers.
CONTAINER_KINDS: Final = '{ "bridge", "veth" }'
# Printable ASCII without the quote, the asterisk and the backslash.
PLAIN_INTERFACE: Final = re.compile(r"[!#-)+-\[\]-~]+")
RECORDED_PORTS: Final = "{ tcp, udp, udplite, sctp, dccp }"
# What the rules fill by themselves. A full set records no more and blocks nothing.
_RECORDED: Final = f"size 16384; flags dynamic,timeout; timeout {SEEN_SECONDS}s"

SETS: Final[tuple[tuple[str, str], ...]] = (
    ("map overlay", "type ipv4_addr : ipv4_addr"),
    ("set peers4", "type ipv4_addr"),
    ("set peers6", "type ipv6_addr"),
    ("set revoked4", "type ipv4_addr; flags timeout"),
    ("set revoked6", "type ipv6_addr; flags timeout"),
    ("set grace", "typeof meta nfproto; flags timeout"),
    ("set seen4", f"type ipv4_addr . inet_proto . inet_service; {_RECORDED}"),
    ("set seen6", f"type ipv6_addr . inet_proto . inet_service; {_RECORDED}"),
    ("set forwarded", f"type inet_proto . inet_service; {_RECORDED}"),
    ("set redirected", f"type inet_proto . inet_service . inet_service; {_RECORDED}"),
    ("map enforce", "typeof meta nfproto : verdict; flags timeout"),
    ("counter admitted", "packets 0 bytes 0"),  # packets from members that were let in as such
    ("counter judged", "packets 0 bytes 0"),  # packets that got as far as the verdict
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the policy needs to know of this machine beside its identity.

    ``uplinks``: interfaces with a default route or the private address. ``ssh_untracked``: no
    other table judges input, so SSH may bypass connection tracking.
    """

    uplinks: tuple[str, ...]
    ssh_untracked: bool


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
    if by_private:
        yield Element("peers4", str(member.private))
    if member.public is not None:
        yield Element("peers4", str(member.public))
    for address in member.more:
        if isinstance(address, IPv6Address):
            yield Element("peers6", str(address))
        elif by_private or site is None or not any(address in n for n in site.private):
            # Another site's private address may here be a stranger's: private ranges overlap.
            yield Element("peers4", str(address))


def own_elements(host: Host, overlay: IPv4Address) -> Iterator[Element]:
    """A host reaches itself by its own overlay address."""
    yield Element("overlay", str(overlay), str(host.private))


def structure(settings: Settings, surroundings: Surroundings) -> Structure:
    """All chains. The order of the rules in ``input`` is the promise; see docs/how-it-works.md."""
    return Structure(
        SETS,
        (
            *_untracked_ssh(settings, surroundings),
            *_translation(settings, surroundings),
            _refusal(),
            _output(settings),
            _asked(),
            _record(),
            _judge(settings),
            _input(settings, surroundings),
            _published(settings),
            _forward(settings, surroundings),
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


def _translation(settings: Settings, surroundings: Surroundings) -> Iterator[Chain]:
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
    # Only for this machine's own containers: translating what comes from an uplink would make
    # the host a relay for strangers.
    ours = [
        f"iifname {_outside(surroundings)} accept",
        f"meta iifkind != {CONTAINER_KINDS} accept",
    ]
    yield Chain(
        "translate_containers",
        f"type nat hook prerouting priority {NAT_PRIORITY}; policy accept;",
        (*ours, *rules),
    )


def _refusal() -> Chain:
    return Chain(
        "refuse",
        None,
        ("meta l4proto tcp reject with tcp reset", "reject with icmp host-unreachable"),
    )


def _output(settings: Settings) -> Chain:
    """The only thing ever refused on the way out: an overlay address that nobody holds.

    The test stands before any exclusion of lo, because the overlay's route leads there.
    """
    return Chain(
        "output",
        f"type filter hook output priority {FILTER_PRIORITY}; policy accept;",
        (f"ip daddr {settings.overlay_subnet} goto refuse",),
    )


def _judge(settings: Settings) -> Chain:
    """What is left when nobody vouches for the source: the last word on a packet."""
    rules: list[str] = []
    for open_port in settings.open_ports:
        rules.extend(_open(open_port))
    rules += [
        (
            "icmp type { echo-request, destination-unreachable, time-exceeded, parameter-problem } "
            "limit rate 50/second burst 100 packets accept"
        ),
        (
            "icmpv6 type { echo-request, destination-unreachable, packet-too-big, time-exceeded, "
            "parameter-problem } limit rate 50/second burst 100 packets accept"
        ),
        # Connections from before connection tracking ran show as mid-stream segments: plain ACKs
        # that are new to it. A removed peer is never given this grace.
        # The flags come before the set: nft 1.1 takes a protocol looked up in one for a conflict.
        "ip saddr != @revoked4 tcp flags & (fin|syn|rst|ack) == ack meta nfproto @grace accept",
        "ip6 saddr != @revoked6 tcp flags & (fin|syn|rst|ack) == ack meta nfproto @grace accept",
        "jump record",
        'counter name "judged" meta nfproto vmap @enforce',
    ]
    return Chain("judge", None, tuple(rules))


def _record() -> Chain:
    """The shadow. A published or redirected port is recorded as the one that was asked for, since
    that is what open_ports must name; see ``_asked``. The rest, by the port in the packet: what
    is not tracked, and what a removed source sends into a connection that this host began."""
    seen = [
        f"meta l4proto {RECORDED_PORTS} "
        f"update @{where} {{ {word} saddr . meta l4proto . th dport counter }}"
        for word, where in (("ip", "seen4"), ("ip6", "seen6"))
    ]
    return Chain(
        "record", None, ("meta l4proto { tcp, udp } ct direction original goto asked", *seen)
    )


def _asked() -> Chain:
    """One rule for each protocol: nft 1.0.6 takes ``ct original proto-dst`` for a port, and lets
    it into a concatenation, only where one protocol is settled before it in the same rule."""
    rules = []
    for proto in ("tcp", "udp"):
        asked = "meta l4proto . ct original proto-dst"
        rules += [
            f"meta l4proto {proto} update @seen4 {{ ip saddr . {asked} counter }}",
            f"meta l4proto {proto} update @seen6 {{ ip6 saddr . {asked} counter }}",
            # Where the socket is that answers: on another port, or in a container. For the preview.
            # In this order, since nft could not read again what it lists of the other.
            (
                f"meta l4proto {proto} ct status dnat "
                "update @redirected { meta l4proto . th dport . ct original proto-dst }"
            ),
            f"meta l4proto {proto} meta oifkind {CONTAINER_KINDS} update @forwarded {{ {asked} }}",
        ]
    return Chain("asked", None, tuple(rules))


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


_PEERS: Final = (
    'ip saddr @peers4 counter name "admitted" accept',
    'ip6 saddr @peers6 counter name "admitted" accept',
)


def _vouched(settings: Settings) -> Iterator[str]:
    """Trusted networks, sources just removed, then what is already established. Peers first."""
    for word, networks in _by_family(settings.trusted):
        yield f"{word} saddr {_listed(networks)} accept"
    yield "ip saddr @revoked4 goto judge"
    yield "ip6 saddr @revoked6 goto judge"
    yield "ct state established,related accept"


def _input(settings: Settings, surroundings: Surroundings) -> Chain:
    return Chain(
        "input",
        f"type filter hook input priority {FILTER_PRIORITY}; policy accept;",
        (
            'iif "lo" accept',
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
            # DHCP's answers are not "established": they answer a broadcast or a multicast.
            "udp sport 67 udp dport 68 accept",
            "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept",
            *_from_containers(surroundings),
            *_vouched(settings),
            "goto judge",
        ),
    )


def _from_containers(surroundings: Surroundings) -> Iterator[str]:
    yield f"iifname != {_outside(surroundings)} meta iifkind {CONTAINER_KINDS} accept"


def _published(settings: Settings) -> Chain:
    return Chain("published", None, (*_PEERS, *_vouched(settings), "goto judge"))


def _forward(settings: Settings, surroundings: Surroundings) -> Chain:
    uplinks = _outside(surroundings)
    return Chain(
        "forward",
        f"type filter hook forward priority {FILTER_PRIORITY}; policy accept;",
        (
            f"ip daddr {settings.overlay_subnet} goto refuse",
            f"iifname {uplinks} oifname != {uplinks} meta oifkind {CONTAINER_KINDS} goto published",
        ),
    )


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


def _outside(surroundings: Surroundings) -> str:
    """The interfaces that lead to no container, as a set that is never empty."""
    names = dict.fromkeys(_in_quotes(name) for name in ("lo", *surroundings.uplinks))
    return "{ " + ", ".join(f'"{name}"' for name in names) + " }"


def _in_quotes(interface: str) -> str:
    """The name as nft can say it.

    The kernel allows nearly every byte in an interface's name, and nft has no escapes. A name that
    it cannot say becomes all that begin like it: to take too many for an uplink is the safe error.
    """
    plain = PLAIN_INTERFACE.match(interface)
    if plain is None:
        raise DataplaneError(
            f"nftables cannot name the interface {interface!r}: rename it (ip link set … name …)"
        )
    return interface if plain[0] == interface else f"{plain[0]}*"


def cross_address(member: Member, *, host: Host, sites: Mapping[str, Site]) -> IPv4Address | None:
    """The real address by which ``host`` reaches ``member``; None when there is none."""
    for element in elements_of(member, host=host, sites=sites):
        if element.where == "overlay":
            return IPv4Address(element.value)
    return None
