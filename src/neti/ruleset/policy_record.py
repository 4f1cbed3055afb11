"""The chains that record what no rule lets in: the shadow's part of the policy. Pure.

They only count. ``heard`` is for ports where somebody listens, or that lead to a container;
``seen`` is for all others. Each has room of its own: a scan of every port fills only ``seen``.

Must never do: let a packet in, drop it, or depend on which member it is from.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from neti.ruleset.objects import Chain

_PROTOCOLS: Final = ("tcp", "udp")
_WITH_PORTS: Final = "{ tcp, udp, udplite, sctp, dccp }"
_FAMILIES: Final = (("ip", "4"), ("ip6", "6"))
# So many entries one source may add to the record of ports where nobody listens: 2,056 in an
# hour, an eighth of it. What is recorded already is counted on without a limit.
_PACE: Final = "limit rate 30/minute burst 256 packets"


def record_chains(toward_container: Sequence[str]) -> Iterator[Chain]:
    """``toward_container``: conditions, in nft's words; by any a packet leaves to a container."""
    for room in ("heard", "seen"):
        yield Chain(room, None, (*_updates(room), f'counter name "un{room}"'))
        yield Chain(f"{room}_paced", None, (*_pace(room), 'counter name "unseen"'))
        yield Chain(f"{room}_limited", None, tuple(_limited(room)))
    yield Chain("asked", None, tuple(_asked(toward_container)))
    yield Chain("untracked", None, (*_untracked_updates(), 'counter name "unseen"'))
    yield Chain("untracked_paced", None, (*_pace("untracked"), 'counter name "unseen"'))
    yield Chain("record", None, tuple(_record()))


def _record() -> Iterator[str]:
    """A published or redirected port is recorded as the one that was asked for, since that is what
    open_ports must name. The rest, by the port in the packet: what is not tracked, and what a
    removed source sends into a connection that this host may have begun."""
    yield "meta l4proto { icmp, ipv6-icmp } return"  # judged by its own rules, and has no port
    yield "meta l4proto { tcp, udp } ct direction original goto asked"
    for word, version in _FAMILIES:
        key = f"{word} saddr . meta l4proto . th dport"
        yield f"meta l4proto {_WITH_PORTS} {key} != @seen{version} goto untracked_paced"
    yield f"meta l4proto {_WITH_PORTS} goto untracked"
    for word, version in _FAMILIES:
        yield f"update @others{version} {{ {word} saddr . meta l4proto counter }} return"
    yield 'counter name "unseen"'


def _untracked_updates() -> Iterator[str]:
    for word, version in _FAMILIES:
        key = f"{word} saddr . meta l4proto . th dport"
        yield f"meta l4proto {_WITH_PORTS} update @seen{version} {{ {key} counter }} return"


def _asked(toward_container: Sequence[str]) -> Iterator[str]:
    """One rule for each protocol: nft 1.0.6 takes ``ct original proto-dst`` for a port, and lets
    it into a concatenation, only where one protocol is settled before it in the same rule."""
    for proto in _PROTOCOLS:
        # Where the socket is that answers: on another port, or in a container. For the preview.
        # In this order, since nft could not read again what it lists of the other.
        yield (
            f"meta l4proto {proto} ct status dnat "
            "update @redirected { meta l4proto . th dport . ct original proto-dst }"
        )
        asked = "meta l4proto . ct original proto-dst"
        for leaving in toward_container:
            yield f"meta l4proto {proto} {leaving} update @forwarded {{ {asked} }}"
    for proto in _PROTOCOLS:
        # A program may hold the port that is asked for only to keep it taken (docker-proxy).
        yield f"{proto} dport @{proto}_listening goto heard"
        yield f"meta l4proto {proto} ct original proto-dst @{proto}_listening goto heard"
    # Which port of a container has a listener is not known here, so one source that asks for all
    # of them must not fill the room of the others.
    for leaving in toward_container:
        yield f"{leaving} goto heard_limited"
    yield "goto seen_limited"


def _updates(room: str) -> Iterator[str]:
    """Count the packet and be done; where the set is full, the rule after these is reached."""
    for proto in _PROTOCOLS:
        for word, version in _FAMILIES:
            key = f"{word} saddr . meta l4proto . ct original proto-dst"
            yield f"meta l4proto {proto} update @{room}{version} {{ {key} counter }} return"


def _limited(room: str) -> Iterator[str]:
    """What is recorded already counts on; what is new takes room, so much an hour for a source.
    Asked for in the negative, since the kernel counts an element that a rule looks up and finds."""
    for proto in _PROTOCOLS:
        for word, version in _FAMILIES:
            key = f"{word} saddr . meta l4proto . ct original proto-dst"
            yield f"meta l4proto {proto} {key} != @{room}{version} goto {room}_paced"
    yield f"goto {room}"


def _pace(room: str) -> Iterator[str]:
    for word, version in _FAMILIES:
        yield f"update @paced{version} {{ {word} saddr {_PACE} }} goto {room}"
