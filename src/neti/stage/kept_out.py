"""Whom ``member_ports`` keep out, or would: which member, of which groups, and the line that would
let it in. Pure.

(record, members by address, listening sockets) -> rows; and the smallest ``member_ports`` that fit
what was seen. Must never do: suggest a group of which most never came to the port.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import Final, Literal, cast

from neti.model import IPAddress
from neti.model.groups import EVERY_MEMBER, MemberPort, MemberPorts, spelled
from neti.ruleset.member_ports import admits
from neti.stage.preview import View, still_refused
from neti.stage.record import Record
from neti.stage.shadow import Listener, Port, Seen, address_of, answering, port_name

_PROTOCOLS: Final = ("tcp", "udp")
# Names of groups that YAML takes for something else, unless they are quoted.
_NOT_TEXT: Final = frozenset({"null", "true", "yes", "on", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Peer:
    """A member behind an address. ``groups``: all that it is in."""

    id: str
    groups: frozenset[str]


class Others(dict[str, frozenset[str]]):
    """Every other member's id, with its groups. Not changed once something was asked of it."""

    @cached_property
    def of_group(self) -> dict[str, frozenset[str]]:
        """The ids of each group. Costs as much as there are members, and only once."""
        found: dict[str, set[str]] = {}
        for host_id, groups in self.items():
            for group in groups:
                found.setdefault(group, set()).add(host_id)
        return {group: frozenset(ids) for group, ids in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a record is joined with. ``peers``: members by their addresses as this host sees them,
    packed; ``ports``: the policy that is asked about; ``always``: ports that no policy shuts;
    ``view``: what else lets in. ``defined``: groups that there are."""

    peers: Mapping[bytes, tuple[Peer, ...]]
    ports: MemberPorts
    always: frozenset[Port] = frozenset()
    view: View = View(now=0.0)
    everybody: Others = field(default_factory=Others)
    defined: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Kept:
    """One member's use of a port. Who shares its address is named beside it."""

    id: str
    groups: tuple[str, ...]
    address: IPAddress
    packets: int
    first: float
    last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One port. ``answered``: something listens there, or it leads to a container."""

    port: Port
    listeners: tuple[Listener, ...]
    answered: bool
    accepted: bool
    kept: tuple[Kept, ...]

    @property
    def packets(self) -> int:
        return sum(one.packets for one in self.kept)

    @property
    def last(self) -> float:
        return max(one.last for one in self.kept)

    @property
    def first(self) -> float:
        return min(one.first for one in self.kept)

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(one.id for one in self.kept)

    def words(self) -> str:
        """``5432/tcp (2 members, i-0abc for one)``."""
        ids = sorted(self.ids)
        count = f"{len(ids)} member{'s' if len(ids) != 1 else ''}"
        return f"{port_name(self.port)} ({count}, {ids[0]} for one)"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """``ports``: the lines of the file and those that are missing; ``new``: whom groups lack, by
    name; ``defined``: those of these groups that there are."""

    ports: tuple[MemberPort, ...] = ()
    new: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    defined: frozenset[str] = frozenset()


def kept_out(record: Record, around: Around) -> list[Row]:
    """Every recorded port with a member that the policy still does not admit to it; those with a
    listener first, and among them the one with most members."""
    found = []
    for port, recorded in record.ports.items():
        if port in around.always:
            continue
        use = still_refused(port, recorded, around.view)
        kept = [
            one for source, held in use.sources.items() for one in _kept(source, held, port, around)
        ]
        if not kept:
            continue
        heard = tuple(answering(port, use, around.view.listening))
        found.append(
            Row(
                port=port,
                listeners=heard,
                answered=bool(heard) or use.forwarded,
                accepted=port in around.view.accepted,
                kept=tuple(sorted(kept, key=lambda one: (-one.packets, one.id))),
            )
        )
    return sorted(found, key=lambda row: (not row.answered, -len(row.ids), row.port))


def is_admitted(source: bytes, port: Port, around: Around) -> bool | None:
    """Whether the policy admits what comes from there; None: it is no member's address. All behind
    an address have the groups of each."""
    peers = around.peers.get(source)
    if not peers:
        return None
    groups = frozenset[str]().union(*(one.groups for one in peers))
    return port in around.always or admits(around.ports, groups, *_asked(port))


def _asked(port: Port) -> tuple[str | None, int]:
    return (port[0], port[1]) if port[0] in _PROTOCOLS else (None, 0)


def _kept(source: bytes, held: Seen, port: Port, around: Around) -> Iterator[Kept]:
    if is_admitted(source, port, around) is not False:
        return
    for peer in around.peers[source]:
        groups = tuple(sorted(peer.groups))
        yield Kept(peer.id, groups, address_of(source), held.packets, held.first, held.last)


def since(rows: Iterable[Row], moment: float) -> list[Row]:
    """What was refused from then on."""
    kept = (replace(row, kept=tuple(one for one in row.kept if one.last >= moment)) for row in rows)
    return [row for row in kept if row.kept]


def let_in_by(rows: Iterable[Row], around: Around) -> list[Row]:
    """Without those whom this policy keeps out as well: a trial of another takes nothing from
    them."""
    kept = (
        replace(
            row,
            kept=tuple(
                one for one in row.kept if is_admitted(one.address.packed, row.port, around)
            ),
        )
        for row in rows
    )
    return [row for row in kept if row.kept]


def unanswered(rows: Iterable[Row]) -> list[Row]:
    """Ports in use that nobody has accepted losing."""
    return [row for row in rows if row.answered and not row.accepted]


# --- the lines to write ---


def suggested(ports: MemberPorts, rows: Iterable[Row], around: Around) -> Suggestion:
    """The smallest policy that admits what the rows show, by the groups that there are. Ports where
    nothing listens are left out, and protocols without ports, which no line can name."""
    new: dict[frozenset[str], str] = {}
    lines = list(ports or ())
    for row in sorted(rows, key=lambda one: one.port):
        if not row.answered or row.port[0] not in _PROTOCOLS:
            continue
        groups, rest = fitting(row.ids, around.everybody)
        if rest:
            proto, number = row.port
            groups = (*groups, new.setdefault(rest, f"uses-{number}-{proto}"))
        lines = _with(lines, row.port, groups)
    made = {name: tuple(sorted(ids)) for ids, name in new.items()}
    return Suggestion(tuple(_joined(lines)), made, around.defined & made.keys())


def fitting(ids: Collection[str], everybody: Others) -> tuple[tuple[str, ...], frozenset[str]]:
    """Groups whose members these are, few but no wider than need be, and who is in none of them.
    A group fits if more than half of its members are among them. Costs as much as there are groups
    and ids."""
    left = set(ids)
    if len(everybody) > 1 and left >= everybody.keys():
        return (EVERY_MEMBER,), frozenset()
    every = everybody.of_group.items()
    fit = {name: who for name, who in every if 2 * len(who & left) > len(who)}
    chosen = []
    while left:
        best = max(
            sorted(fit), key=lambda name: (len(fit[name] & left), -len(fit[name])), default=None
        )
        if best is None or not fit[best] & left:
            break
        chosen.append(best)
        left -= fit.pop(best)
    return tuple(sorted(chosen)), frozenset(left)


def _with(lines: list[MemberPort], port: Port, groups: Iterable[str]) -> list[MemberPort]:
    proto, number = cast("Literal['tcp', 'udp']", port[0]), port[1]
    for place, one in enumerate(lines):
        if (one.proto, one.first, one.last) == (proto, number, number):
            wider = replace(one, groups=tuple(dict.fromkeys((*one.groups, *groups))))
            return [*lines[:place], wider, *lines[place + 1 :]]
    return [*lines, MemberPort(tuple(groups), proto, number, number)]


def _joined(lines: Iterable[MemberPort]) -> Iterator[MemberPort]:
    """Ports in order, neighbours with the same groups as one range, then what is for all."""
    every = sorted(lines, key=lambda one: (one.proto is None, one.proto or "", one.first, one.last))
    held: MemberPort | None = None
    for one in every:
        if held is None:
            held = one
        elif one.proto is not None and one.proto == held.proto and _goes_on(held, one):
            held = replace(held, last=one.last)
        else:
            yield held
            held = one
    if held is not None:
        yield held


def _goes_on(held: MemberPort, one: MemberPort) -> bool:
    return one.first == held.last + 1 and set(one.groups) == set(held.groups)


def line_of(one: MemberPort) -> str:
    """As neti.yml has it: ``5432/tcp: [app, db]``."""
    groups = (f'"{name}"' if name in _NOT_TEXT else name for name in one.groups)
    return f"{spelled(one)}: [{', '.join(groups)}]"


def text_of(ports: Iterable[MemberPort]) -> list[str]:
    """The key of neti.yml, line by line."""
    return ["member_ports:", *(f"  {line}" for line in _lines(ports))]


def _lines(ports: Iterable[MemberPort]) -> Iterator[str]:
    """What is for all protocols and ports is one line."""
    for always, each in groupby(ports, key=lambda one: one.proto is None):
        if always:
            groups = dict.fromkeys(group for one in each for group in one.groups)
            yield line_of(MemberPort(tuple(groups)))
        else:
            yield from map(line_of, each)


def row_lines(row: Row, ports: MemberPorts, around: Around) -> tuple[str | None, tuple[str, ...]]:
    """The key of neti.yml, all of it in one line, so that it can be pasted in place of the one that
    is there: with what the file has, and whom the row shows let in (None: no line can). And the
    commands that make its groups."""
    if row.port[0] not in _PROTOCOLS:
        return None, ()
    own = suggested(ports, [replace(row, answered=True)], around)
    return f"member_ports: {{{', '.join(_lines(own.ports))}}}", commands_of(own)


def commands_of(suggestion: Suggestion) -> tuple[str, ...]:
    """A group that there is keeps whom it has."""
    return tuple(
        f"neti group {'add' if name in suggestion.defined else 'set'} {name} {' '.join(ids)}"
        for name, ids in suggestion.new.items()
    )
