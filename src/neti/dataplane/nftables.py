"""``table inet neti`` in the real kernel: read it back, apply to it."""

import re
from typing import Any, Final

from neti.dataplane.libnftables import Nftables
from neti.dataplane.sightings import SightingsReader
from neti.errors import DataplaneError, DataplaneUnavailable
from neti.ruleset import (
    FAMILY_TABLE,
    FOREIGN,
    LISTENING,
    MAPS,
    NO_TABLE,
    ORDERED,
    TIMED,
    KernelState,
    SetName,
    Transaction,
)
from neti.shadow import Sighting

# With numeric output, which the structure's listing wants, nft prints nfproto as a number.
_FAMILIES: Final = {2: "ipv4", 10: "ipv6"}
# Listing our table or its counters alone would fetch every element to print none of them (70 ms at
# 16,000 in 1.0.6); the terse listing of the family does not (0.5 ms).
_FAMILY: Final = f"list ruleset {FAMILY_TABLE.split()[0]}"
_COUNTER: Final = re.compile(r"^\tcounter (\w+) \{\n\t\tpackets (\d+) ", re.MULTILINE)
_NOT_THERE: Final = "No such file or directory"


def _ours(everything: str) -> str | None:
    """Our table's part of a listing of the family."""
    start = everything.find(f"table {FAMILY_TABLE} {{\n")
    if start < 0:
        return None
    return everything[start : everything.index("\n}\n", start) + 3]


class NftablesDataplane:
    """Works in the network namespace of the thread that made it."""

    def __init__(self) -> None:
        self._nft = Nftables()
        self._sightings = SightingsReader()

    def close(self) -> None:
        self._nft.close()
        self._sightings.close()

    def structure(self) -> str | None:
        return _ours(self._nft.listing(_FAMILY))

    def read(self) -> KernelState:
        structure = self.structure()
        if structure is None:
            return NO_TABLE
        chains = tuple(
            line.split()[1] for line in structure.splitlines() if line.startswith("\tchain ")
        )
        return KernelState(
            structure=structure,
            chain_names=chains,
            elements={where: self._elements(where) for where in ORDERED},
            timed={where: self.timed(where) for where in TIMED},
            enforce={
                _plain(key["elem"]["val"] if isinstance(key, dict) else key): _left(key, verdict)
                for key, verdict in self._list("enforce")
            },
        )

    def timed(self, where: SetName) -> dict[str, int]:
        return {
            _plain(item["elem"]["val"]): item["elem"].get("expires", 0)
            for item in self._list(where)
            if isinstance(item, dict)
        }

    def counters(self) -> dict[str, int]:
        table = _ours(self._nft.listing_with_state(_FAMILY)) or ""
        return {name: int(packets) for name, packets in _COUNTER.findall(table)}

    def sightings(self) -> list[Sighting]:
        return self._sightings.read()

    def apply(self, transaction: Transaction) -> None:
        if transaction:
            self._nft.run(transaction.text())

    def _elements(self, where: SetName) -> dict[str, str]:
        items = self._list(where)
        if where in MAPS:
            return {_plain(key): _plain(value) for key, value in items}
        if where in LISTENING.values():
            return {str(key): "" for key in items}
        return {_plain(key): "" for key in items}

    def _list(self, where: SetName) -> list[Any]:
        kind = "map" if where in MAPS else "set"
        try:
            answer = self._nft.query(f"list {kind} {FAMILY_TABLE} {where}")
        except DataplaneUnavailable:
            raise
        except DataplaneError as error:
            if _NOT_THERE in str(error):
                return []  # somebody removed the set: the structure differs too, and is replaced
            raise
        for item in answer:
            if kind in item:
                elements: list[Any] = item[kind].get("elem", [])
                return elements
        return []


def _plain(value: Any) -> str:
    """An element's key or value as nft writes it; a foreign one with a timeout is told apart."""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return _FAMILIES.get(value, str(value))
    if isinstance(value, dict) and "elem" in value:
        return f"{_plain(value['elem']['val'])} timeout {value['elem'].get('timeout', 0)}s"
    return str(value)


def _left(key: Any, verdict: Any) -> int | None:
    """Seconds that an element of map ``enforce`` has left; None: no end."""
    if verdict != {"drop": None}:
        return FOREIGN
    elem = key.get("elem", {}) if isinstance(key, dict) else {}
    return int(elem.get("expires", 0)) if "timeout" in elem else None
