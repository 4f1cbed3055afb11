"""A kernel made of dictionaries, for tests of the code above it. As strict as the real one.

It refuses what the kernel refuses: to add an element that is there, to delete one that is not, or a
rule that names a set, counter or chain that is not there.
Time-outs are kept as given and do not run; ``expire`` ends a trial.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from typing import Final, TypeVar

from neti.errors import DataplaneError, KernelMoved
from neti.ruleset.objects import (
    FAMILIES,
    FOREIGN,
    NO_TABLE,
    OPTIONAL,
    ORDERED,
    RELAXED_MARK,
    TIMED,
    AddElements,
    AddTimed,
    Command,
    CreateTable,
    DeleteElements,
    DeleteTable,
    Drop,
    KernelState,
    Require,
    RewriteChains,
    Structure,
    Transaction,
)
from neti.ruleset.set_names import GroupSet, OpeningSet, SetName, group_set, opening_set
from neti.stage.leftovers import Call
from neti.stage.shadow import Sighting

V = TypeVar("V")

# What a rule refers to by name.
_NAMED: Final = re.compile(r'@(\w+)|counter name "(\w+)"|\b(?:jump|goto) (\w+)')

_DORMANT = "dormant"  # in place of the flag


@dataclass
class _Table:
    sets: tuple[tuple[str, str], ...]
    chains: dict[str, str]
    elements: dict[SetName, dict[str, str]] = field(default_factory=dict)
    timed: dict[SetName, dict[str, int]] = field(default_factory=dict)
    enforce: dict[str, int | None] = field(default_factory=dict)
    require: dict[str, int | None] = field(default_factory=dict)
    narrowed: dict[str, int | None] = field(default_factory=dict)
    handle: int = field(default_factory=count(1).__next__)

    def switches(self) -> dict[SetName, dict[str, int | None]]:
        return {"enforce": self.enforce, "require": self.require, "narrowed": self.narrowed}

    def copied(self) -> "_Table":
        return replace(
            self,
            chains=dict(self.chains),
            elements={where: dict(held) for where, held in self.elements.items()},
            timed={where: dict(held) for where, held in self.timed.items()},
            enforce=dict(self.enforce),
            require=dict(self.require),
            narrowed=dict(self.narrowed),
        )


class MemoryDataplane:
    """``transactions``: what was applied, for tests that look at sizes. ``failing``: a sentence
    with which every ``apply`` is refused. ``seen`` is what packets would have left in the shadow's
    sets, ``unasked_seen`` in those of members, ``called`` in those of callers: they go with the
    table. ``refused``: what was not as
    the commands took it to be. ``counts`` False: the shadow's sets have no counters, as seen with
    Linux 4.18 and 5.4."""

    def __init__(self) -> None:
        self.table: _Table | None = None
        self.transactions: list[Transaction] = []
        self.failing: str | None = None
        self.counted: dict[str, int] = {}
        self.seen: list[Sighting] = []
        self.unasked_seen: list[Sighting] = []
        self.called: list[Call] = []
        self.refused: list[str] = []
        self.counts = True

    def structure(self) -> str | None:
        if self.table is None:
            return None
        sets = "\n".join(sorted(_definitions(self.table.sets)))
        chains = "\n".join(f"chain {name} {{{body}" for name, body in self.table.chains.items())
        return f"{sets}\n{chains}"

    def definitions(self, structure: Structure) -> frozenset[str]:
        return _definitions(structure.sets)

    def read(self) -> KernelState:
        structure = self.structure()
        if self.table is None or structure is None:
            return NO_TABLE
        return KernelState(
            structure=structure,
            chain_names=tuple(self.table.chains),
            definitions=_definitions(self.table.sets),
            elements={
                where: dict(self.table.elements.get(where, {}))
                for where in (*ORDERED, *_group_sets(self.table.sets))
            },
            timed={where: self.timed(where) for where in (*TIMED, *_opening_sets(self.table.sets))},
            enforce=self.enforce(),
            require=self.require() if "require" in _set_names(self.table.sets) else None,
            narrowed=self.narrowed() if "narrowed" in _set_names(self.table.sets) else None,
            missing=OPTIONAL - _set_names(self.table.sets),
            handle=self.table.handle,
            marked_down=self.marked_down(),
        )

    def disarm(self) -> bool:
        if self.table is None:
            return False
        self.table.enforce = {RELAXED_MARK: FOREIGN}
        self.table.require, self.table.narrowed = {}, {}
        return True

    def mark_down(self) -> None:
        self.table = _Table((), {_DORMANT: ""})

    def marked_down(self) -> bool:
        return self.table is not None and _DORMANT in self.table.chains

    def remove(self) -> bool:
        there = self.table is not None
        self._lost()
        return there

    def _lost(self) -> None:
        self.table, self.seen, self.unasked_seen, self.called = None, [], [], []

    def expire(self) -> None:
        """A trial's time is over."""
        table = self._existing()
        for held in (table.enforce, table.require, table.narrowed):
            for key in [key for key, left in held.items() if left is not None]:
                del held[key]

    def enforce(self) -> dict[str, int | None]:
        return dict(self.table.enforce) if self.table else {}

    def require(self) -> dict[str, int | None]:
        return dict(self.table.require) if self.table else {}

    def narrowed(self) -> dict[str, int | None]:
        return dict(self.table.narrowed) if self.table else {}

    def timed(self, where: SetName) -> dict[str, int]:
        return dict(self.table.timed.get(where, {})) if self.table else {}

    def counters(self) -> dict[str, int]:
        return dict(self.counted) if self.table is not None else {}

    def counted_bytes(self) -> dict[str, int]:
        return {name: 100 * packets for name, packets in self.counters().items()}

    def sightings(self) -> list[Sighting]:
        if self.table is None:
            return []
        return [one if self.counts else replace(one, packets=0) for one in self.seen]

    def unasked(self) -> list[Sighting]:
        return list(self.unasked_seen) if self.table is not None else []

    def leftovers(self) -> list[Call]:
        return list(self.called) if self.table is not None else []

    def apply(self, transaction: Transaction) -> None:
        if not transaction:
            return
        if self.failing is not None:
            raise DataplaneError(self.failing)
        before = self.table.copied() if self.table else None
        seen = self.seen, self.unasked_seen, self.called
        try:
            for command in transaction.commands:
                self._command(command)
        except DataplaneError as error:
            self.table, (self.seen, self.unasked_seen, self.called) = before, seen
            self.refused.append(str(error))
            raise
        self.transactions.append(transaction)

    def _command(self, command: Command) -> None:
        match command:
            case DeleteTable(handle):
                if handle not in (None, self._existing().handle):
                    raise KernelMoved("the table: No such file or directory")
                self._lost()
            case CreateTable(structure):
                if self.table is not None:
                    raise KernelMoved("the table: File exists")
                _check_names(structure, structure.sets)
                self.table = _Table(structure.sets, _chains(structure))
            case RewriteChains(structure, held):
                self._rewrite(structure, held)
            case AddElements(where, items):
                optional = OPTIONAL.union(filter(None, (group_set(where),)))
                if where in optional - _set_names(self._existing().sets):
                    raise KernelMoved(f"add {where}: No such file or directory")
                _add(where, self._existing().elements.setdefault(where, {}), items)
            case AddTimed(where, timeouts):
                if opening_set(where) and where not in _set_names(self._existing().sets):
                    raise KernelMoved(f"add {where}: No such file or directory")
                _add(where, self._existing().timed.setdefault(where, {}), timeouts)
            case Drop(milliseconds, where):
                self._arm(self._existing(), where, milliseconds)
            case Require(milliseconds):
                self._arm(self._existing(), "require", milliseconds)
            case DeleteElements(where, keys):
                self._delete(self._existing(), where, keys)

    def _arm(self, table: _Table, where: SetName, milliseconds: int | None) -> None:
        if where not in _set_names(table.sets):
            raise KernelMoved(f"add {where}: No such file or directory")
        left = None if milliseconds is None else milliseconds // 1000
        _add(where, table.switches()[where], dict.fromkeys(FAMILIES, left))

    def _delete(self, table: _Table, where: SetName, keys: Iterable[str]) -> None:
        if where in (switches := table.switches()):
            _delete(where, switches[where], keys)
        elif where in TIMED or opening_set(where):
            _delete(where, table.timed.setdefault(where, {}), keys)
        else:
            _delete(where, table.elements.setdefault(where, {}), keys)

    def _rewrite(self, structure: Structure, held: tuple[str, ...]) -> None:
        table = self._existing()
        _check_names(structure, table.sets)
        for name in held:
            if table.chains.pop(name, None) is None:
                raise KernelMoved(f"chain {name}: No such file or directory")
        table.chains.update(_chains(structure))

    def _existing(self) -> _Table:
        if self.table is None:
            raise KernelMoved("the table: No such file or directory")
        return self.table


def _add(where: SetName, held: dict[str, V], items: Mapping[str, V]) -> None:
    for key, value in items.items():
        if key in held:
            raise KernelMoved(f"add {where} {key}: File exists")
        held[key] = value


def _delete(where: SetName, held: dict[str, V], keys: Iterable[str]) -> None:
    for key in keys:
        if key not in held:
            raise KernelMoved(f"delete {where} {key}: No such file or directory")
        del held[key]


@lru_cache(maxsize=64)
def _definitions(sets: tuple[tuple[str, str], ...]) -> frozenset[str]:
    return frozenset(f"{name} {{{body}}}" for name, body in sets)


@lru_cache(maxsize=64)
def _set_names(sets: tuple[tuple[str, str], ...]) -> frozenset[str]:
    return frozenset(name.partition(" ")[2] for name, _ in sets)


def _group_sets(sets: tuple[tuple[str, str], ...]) -> Iterator[GroupSet]:
    for name in sorted(_set_names(sets)):
        if (where := group_set(name)) is not None:
            yield where


def _opening_sets(sets: tuple[tuple[str, str], ...]) -> Iterator[OpeningSet]:
    for name in sorted(_set_names(sets)):
        if (where := opening_set(name)) is not None:
            yield where


def _check_names(structure: Structure, sets: tuple[tuple[str, str], ...]) -> None:
    named, led_to = _named(structure)
    missing = named - _set_names(sets)
    missing |= led_to - {chain.name for chain in structure.chains}
    if missing:
        raise DataplaneError(f"the rules name {min(missing)}: No such file or directory")


@lru_cache(maxsize=64)
def _named(structure: Structure) -> tuple[frozenset[str], frozenset[str]]:
    """Sets, maps and counters; and chains."""
    text = "\n".join(rule for chain in structure.chains for rule in chain.rules)
    found = [match.groups() for match in _NAMED.finditer(text)]
    return (
        frozenset(name for one in found for name in one[:2] if name),
        frozenset(chain for _, _, chain in found if chain),
    )


def _chains(structure: Structure) -> dict[str, str]:
    return {chain.name: "\n".join((chain.hook or "", *chain.rules)) for chain in structure.chains}
