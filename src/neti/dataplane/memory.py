"""A kernel made of dictionaries, for tests of what stands above. Strict where the kernel is.

It reads the same commands as nft, as far as Neti writes them, and refuses what the kernel refuses:
an element added again with another value (``File exists``), one deleted that is not there.
Time-outs are kept as given and do not run; ``expire`` ends a trial's.
"""

import copy
import re
from dataclasses import dataclass, field

from neti.errors import DataplaneError
from neti.ruleset import (
    FAMILY_TABLE,
    MAPS,
    NO_TABLE,
    ORDERED,
    TIMED,
    KernelState,
    SetName,
    Transaction,
)
from neti.shadow import Sighting

_ELEMENT = re.compile(rf"(add|delete) element {FAMILY_TABLE} (\w+) \{{ (.*) \}}")
_CHAIN = re.compile(rf"(flush|delete) chain {FAMILY_TABLE} (\w+)")


@dataclass
class _Table:
    sets: str
    chains: dict[str, str]
    elements: dict[str, dict[str, str]] = field(default_factory=dict)


class MemoryDataplane:
    """``transactions`` keeps what was applied, for tests that look at size; set ``failing`` to a
    sentence to have every ``apply`` refused with it. ``seen`` is what packets would have left in
    the shadow's sets: it goes with the table."""

    def __init__(self) -> None:
        self.table: _Table | None = None
        self.transactions: list[Transaction] = []
        self.failing: str | None = None
        self.counted: dict[str, int] = {}
        self.seen: list[Sighting] = []

    def structure(self) -> str | None:
        if self.table is None:
            return None
        chains = "\n".join(f"\tchain {name} {{{body}" for name, body in self.table.chains.items())
        return f"{self.table.sets}\n{chains}"

    def read(self) -> KernelState:
        structure = self.structure()
        if self.table is None or structure is None:
            return NO_TABLE
        return KernelState(
            structure=structure,
            chain_names=tuple(self.table.chains),
            elements={where: dict(self.table.elements.get(where, {})) for where in ORDERED},
            timed={where: self.timed(where) for where in TIMED},
            enforce={
                key: int(value.removeprefix("drop ")) if value.startswith("drop ") else None
                for key, value in self.table.elements.get("enforce", {}).items()
            },
        )

    def expire(self) -> None:
        """A trial's time is over."""
        held = self._existing().elements.get("enforce", {})
        for key in [key for key, value in held.items() if value != "drop"]:
            del held[key]

    def timed(self, where: SetName) -> dict[str, int]:
        held = self.table.elements.get(where, {}) if self.table else {}
        return {key: int(value) for key, value in held.items()}

    def counters(self) -> dict[str, int]:
        return dict(self.counted) if self.table is not None else {}

    def sightings(self) -> list[Sighting]:
        return list(self.seen) if self.table is not None else []

    def apply(self, transaction: Transaction) -> None:
        if not transaction:
            return
        if self.failing is not None:
            raise DataplaneError(self.failing)
        before, seen = copy.deepcopy(self.table), self.seen
        try:
            for command in transaction.commands:
                self._command(command)
        except DataplaneError:
            self.table, self.seen = before, seen
            raise
        self.transactions.append(transaction)

    def _command(self, command: str) -> None:
        if command == f"delete table {FAMILY_TABLE}":
            self._existing()
            self.table, self.seen = None, []
        elif command.startswith(f"table {FAMILY_TABLE} {{"):
            self._define(command)
        elif match := _CHAIN.fullmatch(command):
            if match[2] not in self._existing().chains:
                raise DataplaneError(f"{command}: No such file or directory")
            if match[1] == "delete":
                del self._existing().chains[match[2]]
        elif match := _ELEMENT.fullmatch(command):
            self._element(match[1], match[2], match[3].split(", "))
        else:
            raise DataplaneError(f"syntax error: {command!r}")

    def _define(self, text: str) -> None:
        sets, *chains = text.split("\tchain ")
        bodies = dict(chain.split(" {", 1) for chain in chains)
        if self.table is None:
            self.table = _Table(sets.rstrip(), bodies)
        else:
            self.table.chains.update(bodies)

    def _element(self, verb: str, where: str, items: list[str]) -> None:
        held = self._existing().elements.setdefault(where, {})
        for item in items:
            key, value = item, ""
            if where in MAPS and " : " in item:
                key, value = item.split(" : ")
                key, _, left = key.partition(" timeout ")
                value += f" {int(left.removesuffix('ms')) // 1000}" if left else ""
            elif where in TIMED:
                key, _, left = item.partition(" timeout ")
                value = left.removesuffix("s") or "0"
            if verb == "delete":
                if held.pop(key, None) is None:
                    raise DataplaneError(f"delete {where} {key}: No such file or directory")
            elif where in TIMED:
                held.setdefault(key, value)
            elif held.setdefault(key, value).partition(" ")[0] != value.partition(" ")[0]:
                raise DataplaneError(f"add {where} {key}: File exists")

    def _existing(self) -> _Table:
        if self.table is None:
            raise DataplaneError("No such file or directory")
        return self.table
