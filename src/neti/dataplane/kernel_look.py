"""A look at ``table inet neti`` from outside the agent: does it drop what it should? Reads only.

It follows the rules from the input hook to the verdict, as for other programs' tables, so a rule
that lets everything in before is noticed. One family at a time, because the verdict is by family.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from neti.dataplane.foreign import droppings
from neti.dataplane.foreign.nft import parse
from neti.dataplane.libnftables import Nftables
from neti.dataplane.nftables import NftablesDataplane
from neti.errors import DataplaneError, DataplaneUnavailable
from neti.health import FAMILIES, KernelLook
from neti.ruleset import FAMILY_TABLE

_FAMILY, _TABLE = FAMILY_TABLE.split()
# nft prints the protocol family by number or by name.
_KEYS: Final = {"ipv4": (2, "ipv4"), "ipv6": (10, "ipv6")}


def look(folder: Path) -> KernelLook:
    """``folder``: where the agent keeps what it wrote. Raises DataplaneError."""
    dataplane, nft = NftablesDataplane(), Nftables()
    try:
        listing = dataplane.structure()
        if listing is None:
            return KernelLook(table=False)
        written = structure_written(folder)
        return KernelLook(
            table=True,
            dormant="\n\tflags dormant" in listing,
            as_written=None if written is None else written == listing,
            drops=dropping_families(
                # Of the whole family: for one table nft fetches all elements, to print none.
                nft.query(f"list ruleset {_FAMILY}", terse=True),
                _verdicts(nft),
            ),
        )
    finally:
        dataplane.close()
        nft.close()


def dropping_families(
    listed: Iterable[dict[str, Any]], verdicts: dict[str, list[Any]]
) -> frozenset[str]:
    """Families of which input gets as far as a drop. ``verdicts``: elements of verdict maps."""
    ours = [item for item in listed if _is_ours(item)]
    dropped = set()
    for family in FAMILIES:

        def of_family(name: str, family: str = family) -> list[Any]:
            return [pair for pair in verdicts.get(name, []) if _key(pair) in _KEYS[family]]

        found = droppings(parse(_FAMILY, _TABLE, ours, of_family))
        if any(dropping.hook == "input" for dropping in found):
            dropped.add(family)
    return frozenset(dropped)


def structure_written(folder: Path) -> str | None:
    """The listing that the agent noted after it last wrote the table; None: there is none."""
    try:
        text = (folder / "self.json").read_text()
        held = json.loads(text[text.index("{") :])  # a checksum may stand before it
    except (OSError, ValueError):
        return None
    seen = held.get("structure_seen") if isinstance(held, dict) else None
    return seen if isinstance(seen, str) else None


def _verdicts(nft: Nftables) -> dict[str, list[Any]]:
    try:
        answer = nft.query(f"list map {FAMILY_TABLE} enforce")
    except DataplaneUnavailable:
        raise
    except DataplaneError:
        return {}  # it is not there: nothing is dropped
    return {item["map"]["name"]: item["map"].get("elem", []) for item in answer if "map" in item}


def _is_ours(item: dict[str, Any]) -> bool:
    held = next(iter(item.values()))
    return bool(held.get("family") == _FAMILY and held.get("table") == _TABLE)


def _key(pair: Any) -> Any:
    """An element's key; one with a time-out, as in a trial, is wrapped."""
    key = pair[0] if isinstance(pair, list) and pair else None
    return key["elem"]["val"] if isinstance(key, dict) and "elem" in key else key
