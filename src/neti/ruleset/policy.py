"""(Settings, this host) -> the rules and sets that the kernel should hold. Pure: no I/O, no clock.

``structure`` writes the chains in the order that docs/how-it-works.md explains. What a member means
is in ``reach``; whose interface it is, in ``surroundings``. The chains that clamp, judge and record
have files of their own.

Must never do: depend on who is a member. Members are elements, so a change of one changes no rule.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from neti.model.settings import Settings
from neti.ruleset import policy_gateway as gatewaying
from neti.ruleset import policy_leftover as leftover
from neti.ruleset import policy_members as membering
from neti.ruleset import policy_openings as opening
from neti.ruleset import policy_require as requiring
from neti.ruleset import policy_tunnel as tunneling
from neti.ruleset.networks import by_family, listed
from neti.ruleset.objects import SEEN_SECONDS, SEEN_SIZE, Chain, Structure
from neti.ruleset.policy_early import early_chains
from neti.ruleset.policy_judge import judge, opened, removed, to_opened
from neti.ruleset.policy_members import FIRST, Admission
from neti.ruleset.policy_record import record_chains, unasked_chains
from neti.ruleset.policy_road import clamp, to_clamp
from neti.ruleset.surroundings import Surroundings, Tunnel, Whose

# Destination NAT comes before iptables' own (-100), so that iptables sees a container's published
# port at its real address. We judge a little before priority filter (0), so that what another table
# drops is still recorded here.
NAT_PRIORITY: Final = -105
FILTER_PRIORITY: Final = -10
# Filled by the rules themselves. A full set records no more, and blocks nothing.
_RECORDED: Final = f"size {SEEN_SIZE}; flags dynamic,timeout; timeout {SEEN_SECONDS}s"
# Every port of both protocols fits, so that no scan can fill it.
_ALL_PORTS: Final = f"size 131072; flags dynamic,timeout; timeout {SEEN_SECONDS}s"
_PACED: Final = f"size {SEEN_SIZE}; flags dynamic,timeout; timeout 600s"
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
    # First packets of members' connections: where we let them in, and behind all other programs.
    ("counter asked", "packets 0 bytes 0"),
    ("counter arrived", "packets 0 bytes 0"),
    ("counter called", "packets 0 bytes 0"),  # of those asked: all but Neti's own
    ("counter judged", "packets 0 bytes 0"),  # packets that got as far as the verdict
    # Packets for which the record had no room: to ports with a listener, and the rest.
    ("counter unheard", "packets 0 bytes 0"),
    ("counter unseen", "packets 0 bytes 0"),
)
_UNADMITTED: Final = f"{FIRST} jump first_unadmitted"
_PASSED: Final = f"{FIRST} jump first_passed"
_LAST: Final = 1000  # behind every usual priority of a filter
_PEERS: Final = ("ip saddr @peers4", "ip6 saddr @peers6")


def structure(settings: Settings, surroundings: Surroundings) -> Structure:
    """All chains. The order of the rules in ``input`` is a promise: see docs/how-it-works.md."""
    whose = Whose(settings, surroundings)
    tunnel = tunneling.tunnel_of(settings, surroundings)
    encrypts = tunneling.encrypts(settings, surroundings)
    admitted = membering.admission(settings, surroundings)
    return Structure(
        (
            *SETS,
            *leftover.sets(surroundings),
            *membering.sets(settings, surroundings),
            *opening.sets(surroundings.openings),
            *tunneling.sets(settings, surroundings),
            *gatewaying.sets(settings, surroundings),
        ),
        (
            *early_chains(settings, surroundings),
            *leftover.chains(settings, surroundings),
            *_translation(settings, whose, tunnel),
            _refusal(),
            *tunneling.tunnel_chains(settings, surroundings, whose),
            *clamp(settings, surroundings),
            *record_chains(whose.toward_container),
            *(unasked_chains(whose.toward_container) if admitted and admitted.waits else ()),
            *opened(settings),
            *opening.chains(surroundings.openings),
            *(_required(settings) if encrypts else ()),
            _output(settings, surroundings),
            *judge(
                settings,
                (_UNADMITTED, _PASSED) if admitted else None,
                openings=bool(surroundings.openings),
            ),
            *removed(surroundings),
            *membering.chains(settings, admitted),
            _input(settings, surroundings, whose, admitted),
            *_first_packets(settings, tunnel, encrypts=encrypts, judged=admitted is not None),
            *_published(settings, surroundings, tunnel, admitted),
            *_forward(settings, surroundings, whose),
            *gatewaying.chains(settings, surroundings),
        ),
    )


def _translation(settings: Settings, whose: Whose, tunnel: Tunnel | None) -> Iterator[Chain]:
    rules = []
    if settings.nat_overrides:
        pairs = ", ".join(f"{k} : {v}" for k, v in sorted(settings.nat_overrides.items()))
        rules.append(f"dnat ip to ip daddr map {{ {pairs} }}")
    rules += tunneling.untranslated(tunnel)
    rules.append("dnat ip to ip daddr map @overlay")
    yield Chain(
        "translate_output",
        f"type nat hook output priority {NAT_PRIORITY}; policy accept;",
        (*rules, leftover.AFTER_OUTPUT),
    )
    # Only for this machine's own containers. If we translated what comes from anywhere else, the
    # host would relay for strangers.
    yield Chain("translate", None, (*rules, leftover.AFTER_CONTAINERS))
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
    """What is refused on the way out: an overlay address that nobody holds; and what would go in
    the clear where encryption is required.

    There is no exception for lo, because the overlay's route leads there.
    """
    tunnel = tunneling.tunnel_of(settings, surroundings)
    # What is marked for the tunnel is routed again behind a chain of this type.
    kind = "filter" if tunnel is None else "route"
    refusal = tunneling.refusal(tunnel, forwarded=False)
    return Chain(
        "output",
        f"type {kind} hook output priority {FILTER_PRIORITY}; policy accept;",
        (
            # First, because all below looks for real addresses.
            f"ip daddr {settings.overlay_subnet} {refusal}",
            *to_clamp(settings, surroundings),
            *(requiring.to_clear() if tunneling.encrypts(settings, surroundings) else ()),
        ),
    )


def _ssh(settings: Settings) -> Iterator[str]:
    for word, networks in by_family(settings.ssh_whitelist):
        yield f"tcp dport {settings.ssh_port} {word} saddr {listed(networks)} accept"


def _vouched(settings: Settings, *, removed: str, judged: bool = False) -> Iterator[str]:
    """Trusted networks, removed sources, then what is already established. ``judged``: members that
    no group lets in come here too, and may not begin a connection anew by the ports of a former
    one."""
    for word, networks in by_family(settings.trusted):
        yield f"{word} saddr {listed(networks)} accept"
    yield f"ip saddr @revoked4 goto {removed}"
    yield f"ip6 saddr @revoked6 goto {removed}"
    if judged:
        yield from membering.going_on("accept")
    else:
        yield "ct state established,related accept"


def _members(tunnel: Tunnel | None) -> tuple[str, ...]:
    """Conditions: a packet comes from a member."""
    return (*_PEERS, *tunneling.known(tunnel))


def _let_in(conditions: Iterable[str], admitted: Admission | None) -> Iterator[str]:
    then = membering.let_in(admitted)
    return (f"{condition} {then}" for condition in conditions)


def _input(
    settings: Settings, surroundings: Surroundings, whose: Whose, admitted: Admission | None
) -> Chain:
    tunnel = tunneling.tunnel_of(settings, surroundings)
    encrypts = tunneling.encrypts(settings, surroundings)
    opened_here = to_opened(settings, openings=bool(surroundings.openings))
    return Chain(
        "input",
        f"type filter hook input priority {FILTER_PRIORITY}; policy accept;",
        (
            'iif "lo" accept',
            *tunneling.port(tunnel),
            *to_clamp(settings, surroundings),
            f"{FIRST} jump first_asked",
            *_ssh(settings),
            # Early, because nearly all packets are theirs: up to the removed sources all rules only
            # accept, so their order among each other changes nothing. What must not come in the
            # clear has a real address, so it comes by neither of the tunnel's rules.
            *_let_in(tunneling.known(tunnel), admitted),
            *((requiring.from_clear(forwarded=False),) if encrypts else ()),
            *_let_in(_PEERS, admitted),
            # RFC 4861: hop limit 255 proves that the neighbour is on this link.
            (
                "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, "
                "nd-neighbor-advert, nd-redirect } ip6 hoplimit 255 accept"
            ),
            (
                "icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, "
                "mld2-listener-report } ip6 saddr fe80::/10 accept"
            ),
            # The same for IPv4 (RFC 3376: TTL 1). If queries stay unanswered, switches and routers
            # stop sending this host the groups that it has joined.
            "ip protocol igmp ip ttl 1 ip daddr 224.0.0.0/4 accept",
            # A DHCP answer is not "established", because the question was a broadcast or multicast.
            "udp sport 67 udp dport 68 accept",
            "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept",
            *((f"{whose.from_container} accept",) if whose.from_container else ()),
            *_vouched(settings, removed="removed", judged=admitted is not None),
            *membering.waiting(admitted, _members(tunnel), opened=opened_here),
            "goto judge",
        ),
    )


def _required(settings: Settings) -> Iterator[Chain]:
    return requiring.require_chains(
        settings,
        tuple(_vouched(settings, removed="removed")),
        tuple(_vouched(settings, removed="removed_forwarded")),
    )


def _first_packets(
    settings: Settings, tunnel: Tunnel | None, *, encrypts: bool, judged: bool
) -> Iterator[Chain]:
    """Counted where our own table lets them in, and again behind all other tables. If the second
    count is lower, another program's table drops them. See ``neti.monitoring.arrivals``.
    ``judged``: ours may drop some itself, and those are counted before and behind the verdict."""
    hook = f"type filter hook input priority {_LAST}; policy accept;"
    for counter in ("unadmitted", "passed") if judged else ():
        yield Chain(f"first_{counter}", None, _from_members(counter, tunnel, encrypts=encrypts))
    arrived = _from_members("arrived", tunnel, encrypts=encrypts)
    asked, called = (
        _from_members(counter, tunnel, encrypts=encrypts) for counter in ("asked", "called")
    )
    # A member that verifies is no caller: nobody would miss this host for it.
    beside = f"tcp dport != {settings.verify_port} jump first_called"
    yield Chain("first_called", None, called)
    yield Chain("first_asked", None, (beside, *asked))
    if not encrypts:
        rules = tuple(f"{FIRST} {rule}" for rule in arrived)
        yield Chain("first_arrived", hook, ('iif "lo" accept', *rules))
        return
    # There are more of them, and every packet passes here.
    yield Chain("first_behind", None, arrived)
    yield Chain("first_arrived", hook, ('iif "lo" accept', f"{FIRST} jump first_behind"))


def _from_members(counter: str, tunnel: Tunnel | None, *, encrypts: bool) -> tuple[str, ...]:
    return (
        *(f"{condition} return" for condition in (requiring.uncounted() if encrypts else ())),
        f'ip saddr @peers4 counter name "{counter}"',
        f'ip6 saddr @peers6 counter name "{counter}"',
        *tunneling.counted(tunnel, counter),
    )


def _published(
    settings: Settings,
    surroundings: Surroundings,
    tunnel: Tunnel | None,
    admitted: Admission | None,
) -> Iterator[Chain]:
    encrypts = tunneling.encrypts(settings, surroundings)
    published = to_opened(settings, openings=bool(surroundings.openings), published=True)
    rules = (
        *((requiring.from_clear(forwarded=True),) if encrypts else ()),
        *_let_in(_members(tunnel), admitted),
        *_vouched(settings, removed="removed_forwarded", judged=admitted is not None),
        *membering.waiting(admitted, _members(tunnel), opened=published),
        "goto judge_forwarded",
    )
    yield Chain("published", None, rules)


def _forward(settings: Settings, surroundings: Surroundings, whose: Whose) -> Iterator[Chain]:
    """Whatever is on its way to one of our containers, and does not come from one, is judged,
    whether it arrives by an uplink, a second network card or a tunnel."""
    own = (f"{whose.from_container} accept",) if whose.from_container else ()
    refusal = tunneling.refusal(tunneling.tunnel_of(settings, surroundings), forwarded=True)
    yield Chain("toward_containers", None, (*own, "goto published"))
    yield Chain(
        "forward",
        f"type filter hook forward priority {FILTER_PRIORITY}; policy accept;",
        (
            *to_clamp(settings, surroundings),
            f"ip daddr {settings.overlay_subnet} {refusal}",
            *(requiring.to_clear(whose) if tunneling.encrypts(settings, surroundings) else ()),
            *(f"{leaving} goto toward_containers" for leaving in whose.toward_container),
        ),
    )
