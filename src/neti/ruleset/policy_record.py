"""The chains that record what no rule lets in: the shadow's part of the policy. Pure.

They only count. ``heard`` is for ports with a listener, or that lead to a container; ``seen`` is
for all others. Each has room of its own, so a scan of all ports fills ``seen`` alone. ``unasked``
is for what members reach only because ``member_ports`` is not in force yet.

Must never do: let a packet in, drop it, or depend on which member it comes from.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from neti.ruleset.objects import Chain

_PROTOCOLS: Final = ("tcp", "udp")
_WITH_PORTS: Final = "{ tcp, udp, udplite, sctp, dccp }"
_FAMILIES: Final = (("ip", "4"), ("ip6", "6"))
# How many entries one source may add to the record of ports where nobody listens: 2,056 in an hour,
# an eighth of it. Entries that are there already go on counting without a limit.
_PACE: Final = "limit rate 30/minute burst 256 packets"


def record_chains(toward_container: Sequence[str]) -> Iterator[Chain]:
    """``toward_container``: conditions in nft's words. A packet that meets one goes to a
    container."""
    for room in ("heard", "seen"):
        yield Chain(room, None, (*_updates(room), f'counter name "un{room}"'))
        yield Chain(f"{room}_paced", None, (*_pace(room), 'counter name "unseen"'))
        yield Chain(f"{room}_limited", None, tuple(_limited(room)))
    yield Chain("asked", None, tuple(_asked(toward_container)))
    yield Chain("untracked", None, (*_untracked_updates(), 'counter name "unseen"'))
    yield Chain("untracked_paced", None, (*_pace("untracked"), 'counter name "unseen"'))
    yield Chain("record", None, tuple(_record()))


def unasked_chains(toward_container: Sequence[str]) -> Iterator[Chain]:
    """``jump record_unasked``. The room is one, as nearly all is for ports with a listener."""
    room = "unasked"
    yield Chain(room, None, (*_updates(room), 'counter name "unseen"'))
    yield Chain(f"{room}_paced", None, (*_pace(room), 'counter name "unseen"'))
    yield Chain(f"{room}_limited", None, tuple(_limited(room)))
    yield Chain(f"{room}_port", None, tuple(_asked(toward_container, room, room)))
    # What is not tracked, and what has no ports: those are port 0.
    other = [
        f"{having}update @{room}{version} {{ {word} saddr . meta l4proto . {port} counter }} return"
        for having, port in ((f"meta l4proto {_WITH_PORTS} ", "th dport"), ("", "0"))
        for word, version in _FAMILIES
    ]
    yield Chain(f"{room}_other", None, (*other, 'counter name "unseen"'))
    yield Chain(f"{room}_other_paced", None, (*_pace(f"{room}_other"), 'counter name "unseen"'))
    key = "saddr . meta l4proto . th dport"
    held = [
        f"meta l4proto {_WITH_PORTS} {word} {key} != @{room}{version} goto {room}_other_paced"
        for word, version in _FAMILIES
    ]
    yield Chain(
        f"record_{room}",
        None,
        (
            f"meta l4proto {{ tcp, udp }} ct direction original goto {room}_port",
            *held,
            f"goto {room}_other",
        ),
    )


def _record() -> Iterator[str]:
    """A published or redirected port is recorded as the one that was asked for, because that is
    what open_ports must name. The rest goes by the port in the packet: what is not tracked, and
    what a removed source sends in a connection that this host may have begun."""
    yield "meta l4proto { icmp, icmpv6 } return"  # judged by its own rules, and has no port
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


def _asked(
    toward_container: Sequence[str], listened: str = "heard", others: str = "seen"
) -> Iterator[str]:
    """One rule for each protocol, because nft 1.0.6 allows ``ct original proto-dst`` in a
    concatenation only if the same rule has settled on one protocol before."""
    for proto in _PROTOCOLS:
        # For the preview: where the socket is that answers, on another port or in a container.
        # In this order, because nft cannot read back what it lists for the other one.
        yield (
            f"meta l4proto {proto} ct status dnat "
            "update @redirected { meta l4proto . th dport . ct original proto-dst }"
        )
        asked = "meta l4proto . ct original proto-dst"
        for leaving in toward_container:
            yield f"meta l4proto {proto} {leaving} update @forwarded {{ {asked} }}"
    for proto in _PROTOCOLS:
        # Some programs listen on the port that is asked for only to reserve it (docker-proxy).
        yield f"{proto} dport @{proto}_listening goto {listened}"
        yield f"meta l4proto {proto} ct original proto-dst @{proto}_listening goto {listened}"
    # We do not know which ports of a container have a listener, so one source that tries all of
    # them must not fill the room of the others.
    for leaving in toward_container:
        yield f"{leaving} goto {listened}_limited"
    yield f"goto {others}_limited"


def _updates(room: str) -> Iterator[str]:
    """Count the packet and return. Only if the set is full, the rule behind these is reached."""
    for proto in _PROTOCOLS:
        for word, version in _FAMILIES:
            key = f"{word} saddr . meta l4proto . ct original proto-dst"
            yield f"meta l4proto {proto} update @{room}{version} {{ {key} counter }} return"


def _limited(room: str) -> Iterator[str]:
    """What is recorded already goes on counting; new entries are limited per source. The condition
    is negative, because the kernel also counts an element that a rule looks up and finds."""
    for proto in _PROTOCOLS:
        for word, version in _FAMILIES:
            key = f"{word} saddr . meta l4proto . ct original proto-dst"
            yield f"meta l4proto {proto} {key} != @{room}{version} goto {room}_paced"
    yield f"goto {room}"


def _pace(room: str) -> Iterator[str]:
    for word, version in _FAMILIES:
        yield f"update @paced{version} {{ {word} saddr {_PACE} }} goto {room}"
