"""The chains that judge what nobody vouches for, and those of removed sources. Pure.

Must never do: drop by anything but the elements of map ``enforce``.
"""

from collections.abc import Iterator

from neti.model.settings import OpenPort, Settings
from neti.ruleset.networks import by_family, listed
from neti.ruleset.objects import Chain
from neti.ruleset.surroundings import Surroundings


def opened(settings: Settings) -> Iterator[Chain]:
    rules = [rule for open_port in settings.open_ports for rule in _open(open_port)]
    if rules:
        yield Chain("opened", None, tuple(rules))


def _open(port: OpenPort) -> Iterator[str]:
    """A port is the one that the client asked for: a redirected or published one keeps its name."""
    span = str(port.first) if port.first == port.last else f"{port.first}-{port.last}"
    # Only in the original direction: what a removed peer answers is no use of our port.
    asked = f"meta l4proto {port.proto} ct direction original ct original proto-dst {span}"
    untracked = f"ct state untracked {port.proto} dport {span}"
    if not port.sources:
        yield f"{asked} accept"
        yield f"{untracked} accept"
    for word, networks in by_family(port.sources):
        yield f"{word} saddr {listed(networks)} {asked} accept"
        yield f"{word} saddr {listed(networks)} {untracked} accept"


def judge(settings: Settings) -> Iterator[Chain]:
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


def removed(surroundings: Surroundings) -> Iterator[Chain]:
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
