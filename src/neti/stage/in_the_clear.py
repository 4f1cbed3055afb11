"""What still goes in the clear to and from members that must be encrypted, for an operator to see
before it is refused. Pure.

Must never do: leave out what required encryption would refuse, or list what it lets through.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from types import MappingProxyType
from typing import Final, Literal

from neti.model import IPAddress
from neti.model.settings import Settings
from neti.stage.excepted import Excepted
from neti.words import counted, some

TCP: Final = 6
UDP: Final = 17
_ICMP: Final = frozenset({1, 58})
_PROTOCOLS: Final = {TCP: "tcp", UDP: "udp"}
_SHOWN: Final = 20

Kind = Literal["overlay", "real", "ipv6", "outside"]
_KINDS: Final[Mapping[Kind, str]] = {
    "overlay": "to overlay addresses, which began in the clear",
    "real": "by real addresses",
    "ipv6": "by IPv6",
    "outside": "from public addresses of this site's members, which count as strangers' then",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """A connection that the kernel tracks. ``source``: who opened it; ``to``: where to, as it was
    asked for; ``answers``: where the answers come from. ``passing``: TCP that nobody answered, or
    that is being closed: unless a program goes on with it, the kernel forgets it soon."""

    protocol: int
    source: IPAddress
    to: IPAddress
    answers: IPAddress
    source_port: int = 0
    port: int = 0
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection in the clear. ``id``: the member's."""

    id: str
    kind: Kind
    protocol: str
    source: str
    to: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InTheClear:
    """``keyless``: members without a key that this host believes; ``silent``: those that have not
    answered through the tunnel; the first of each by name. ``counts``: connections of each kind;
    ``flows``: the first of them; ``passing``: how many of all are (``Tracked``). ``fault``: why
    these are not known. ``unable``: this host has no device that works, so nobody can have answered
    it. ``excepted``: what may go on by the configuration's own word, and is not among all that."""

    keyless: int = 0
    keyless_ids: tuple[str, ...] = ()
    silent: int = 0
    silent_ids: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    flows: tuple[Flow, ...] = ()
    fault: str = ""
    unable: bool = False
    excepted: tuple[Excepted, ...] = ()
    passing: int = 0

    def hint(self) -> str:
        """What to do about connections that no program may hold any more; empty: there are none.
        Two minutes are the kernel's own nf_conntrack_tcp_timeout_syn_sent and _fin_wait."""
        if not self.passing:
            return ""
        return (
            f"{counted(self.passing, 'of these connections is', 'of these connections are')} not "
            "established. What 'ss -tan' does not list on either host no program holds any more: "
            "wait two minutes, and the kernel has forgotten it"
        )

    def words(self) -> tuple[str, ...]:
        """One part of a sentence each; none: nothing goes in the clear."""
        return tuple(self._words())

    def _words(self) -> Iterator[str]:
        if self.keyless:
            yield f"{counted(self.keyless, 'member')} without a key ({some(self.keyless_ids)})"
        if self.unable:
            yield "this host has no WireGuard device that works ('neti status' says why)"
        elif self.silent:
            have = "has" if self.silent == 1 else "have"
            yield (
                f"{counted(self.silent, 'member')} that {have} not answered through the tunnel "
                f"({some(self.silent_ids)})"
            )
        for kind, words in _KINDS.items():
            count = self.counts.get(kind, 0)
            if count:
                yield f"{counted(count, 'connection')} {words}{self._example(kind)}"
        if self.fault:
            yield f"connections that cannot be listed: {self.fault}"

    def _example(self, kind: Kind) -> str:
        for flow in self.flows:
            if flow.kind == kind:
                return f" ({flow.to} port {flow.port}/{flow.protocol}, {flow.id}, for one)"
        return ""


def in_the_clear(
    keyless: Iterable[str],
    silent: Iterable[str],
    tracked: Iterable[Tracked],
    whose: Mapping[bytes, str],
    settings: Settings,
    fault: str = "",
    outside: Mapping[bytes, str] = MappingProxyType({}),
) -> InTheClear:
    """``whose``: ids of members by their real addresses, packed, by which nothing may go.
    ``outside``: of those of the own site, by addresses from which they are strangers."""
    without, unheard = sorted(keyless), sorted(silent)
    counts, passing = dict[str, int](), 0
    shown: dict[Kind, list[Flow]] = {kind: [] for kind in _KINDS}
    for one in tracked:
        flow = _flow(one, whose, settings, outside)
        if flow is not None:
            counts[flow.kind] = counts.get(flow.kind, 0) + 1
            passing += one.passing
            if len(shown[flow.kind]) < _SHOWN:
                shown[flow.kind].append(flow)
    return InTheClear(
        keyless=len(without),
        keyless_ids=tuple(without[:_SHOWN]),
        silent=len(unheard),
        silent_ids=tuple(unheard[:_SHOWN]),
        counts=counts,
        flows=tuple(flow for flows in shown.values() for flow in flows),
        fault=fault,
        passing=passing,
    )


def ends(
    one: Tracked,
    whose: Mapping[bytes, str],
    settings: Settings,
    outside: Mapping[bytes, str] = MappingProxyType({}),
) -> bool:
    """Whether the connection ends when encryption is required for good. ``whose``, ``outside``: as
    ``in_the_clear``. TCP from outside goes on: whoever spoofs an address gets no answers."""
    flow = _flow(one, whose, settings, outside)
    return flow is not None and not (flow.kind == "outside" and one.protocol == TCP)


def _flow(
    one: Tracked,
    whose: Mapping[bytes, str],
    settings: Settings,
    outside: Mapping[bytes, str] = MappingProxyType({}),
) -> Flow | None:
    """None: it may go on, or does not concern such a member."""
    real = next((a for a in (one.answers, one.to, one.source) if a.packed in whose), None)
    if real is None and one.source.packed in outside:
        real = one.source
    if real is None or one.protocol in _ICMP:
        return None
    if one.protocol == TCP and settings.ssh_port in (one.port, one.source_port):
        return None
    if one.protocol == UDP and settings.tunnel_port in (one.port, one.source_port):
        return None  # the tunnel itself
    if any(real in network for network in settings.trusted):
        return None
    if real == one.source and _is_open(one, settings):
        return None
    kind: Kind = "ipv6" if isinstance(real, IPv6Address) else "real"
    if one.to in settings.overlay_subnet:
        kind = "overlay"
    if real.packed not in whose:
        kind = "outside"
    protocol = _PROTOCOLS.get(one.protocol, str(one.protocol))
    return Flow(
        whose.get(real.packed) or outside[real.packed],
        kind,
        protocol,
        str(one.source),
        str(one.to),
        one.port,
    )


def _is_open(one: Tracked, settings: Settings) -> bool:
    return any(
        opened.proto == _PROTOCOLS.get(one.protocol)
        and opened.first <= one.port <= opened.last
        and (not opened.sources or any(one.source in network for network in opened.sources))
        for opened in settings.open_ports
    )
