"""The chains that judge what no rule has let in, and those for removed sources. Pure.

Must never do: drop by anything but the elements of map ``enforce``.
"""

from collections.abc import Iterator

from neti.model.settings import OpenPort, Settings
from neti.ruleset.networks import by_family, listed
from neti.ruleset.objects import Chain
from neti.ruleset.policy_openings import JUMP
from neti.ruleset.surroundings import Surroundings


def opened(settings: Settings) -> Iterator[Chain]:
    rules = [rule for open_port in settings.open_ports for rule in _open(open_port)]
    if rules:
        yield Chain("opened", None, tuple(rules))


def _open(port: OpenPort) -> Iterator[str]:
    """The port is the one that the client asked for, also where it is redirected or published."""
    span = str(port.first) if port.first == port.last else f"{port.first}-{port.last}"
    # Only in the original direction: the answer of a removed peer does not use our port.
    asked = f"meta l4proto {port.proto} ct direction original ct original proto-dst {span}"
    untracked = f"ct state untracked {port.proto} dport {span}"
    if not port.sources:
        yield f"{asked} accept"
        yield f"{untracked} accept"
    for word, networks in by_family(port.sources):
        yield f"{word} saddr {listed(networks)} {asked} accept"
        yield f"{word} saddr {listed(networks)} {untracked} accept"


def icmp() -> Iterator[str]:
    """Echo and errors, from whom ever."""
    limit = "limit rate 50/second burst 100 packets accept"
    yield (
        "icmp type { echo-request, destination-unreachable, time-exceeded, "
        f"parameter-problem }} {limit}"
    )
    yield (
        "icmpv6 type { echo-request, destination-unreachable, packet-too-big, "
        f"time-exceeded, parameter-problem }} {limit}"
    )


def to_opened(settings: Settings, *, openings: bool, published: bool = False) -> tuple[str, ...]:
    """Rules that let in by ``open_ports``, and by what is open for a time. ``published``: these
    open the host's own ports and published ones, not every port of a container."""
    led = (*(("jump opened",) if settings.open_ports else ()), *((JUMP,) if openings else ()))
    return tuple(f"ct status dnat {jump}" for jump in led) if published else led


def judge(
    settings: Settings, around: tuple[str, str] | None = None, *, openings: bool = False
) -> Iterator[Chain]:
    """The last word on a packet that no other rule has let in. ``around``: rules before and behind
    it, for what is for this machine itself."""
    yield Chain(
        "verdict",
        None,
        (
            *icmp(),
            # A connection from before tracking began shows as segments in mid-stream: plain ACKs of
            # which conntrack knows nothing. A removed peer gets no grace. The flags come before the
            # set, because nft 1.1 takes a protocol that is looked up in a set for a conflict.
            *(
                f"{word} saddr != @{revoked} tcp flags & (fin|syn|rst|ack) == ack "
                "meta nfproto @grace accept"
                for word, revoked in (("ip", "revoked4"), ("ip6", "revoked6"))
            ),
            "jump record",
            'counter name "judged" meta nfproto vmap @enforce',
        ),
    )
    before, *behind = (around[0], "jump verdict", around[1]) if around else ("goto verdict",)
    yield Chain("judge", None, (*to_opened(settings, openings=openings), before, *behind))
    published = to_opened(settings, openings=openings, published=True)
    yield Chain("judge_forwarded", None, (*published, "goto verdict"))


def removed(surroundings: Surroundings) -> Iterator[Chain]:
    """Sources that were members until recently. Answers to what this host opened are let in,
    because an address may have passed on to somebody else, such as a database, and a hostile member
    may have claimed any address. Everything else from such a source is judged, also in connections
    that it opened while it was a member.

    conntrack takes whoever it saw first for the one who opened a connection. If the connection is
    older than tracking, that may be wrong. So the port decides as well: what comes to a port where
    this host listens is no answer, and what comes to a local port from the range for outgoing
    connections, where nobody listens, can only be one.
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
    # This host cannot see who listens in a container.
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
