"""A look at ``table inet neti`` from outside the agent: does it drop what it should? Reads only.

It follows the rules from the input hook to the verdict, as it does for other programs' tables, so
it notices a rule in between that lets everything in. One family at a time, because the verdict is
by family. Raw netlink only: what other tables hold cannot matter.
"""

import json
from contextlib import closing
from pathlib import Path
from typing import Final

from neti import files
from neti.dataplane.foreign import droppings
from neti.dataplane.foreign.read import RulesReader
from neti.dataplane.nf_tables import TABLE_BYTES
from neti.dataplane.nftables import NftablesDataplane
from neti.monitoring.situation import FAMILIES, KernelLook
from neti.ruleset.objects import FAMILY_TABLE

_AT_MOST: Final = 8 << 20
_FAMILY: Final = FAMILY_TABLE.split()[0]
_KEYS: Final = {"ipv4": 2, "ipv6": 10}


def look(folder: Path) -> KernelLook:
    """``folder``: where the agent keeps what it wrote. Raises DataplaneError."""
    with closing(NftablesDataplane()) as dataplane, closing(RulesReader()) as reader:
        listing = dataplane.structure()
        if listing is None:
            return KernelLook(table=False)
        written = structure_written(folder)
        return KernelLook(
            table=True,
            dormant=reader.dormant(_FAMILY, TABLE_BYTES),
            as_written=None if written is None else written == listing,
            drops=dropping_families(reader),
        )


def dropping_families(reader: RulesReader) -> frozenset[str]:
    """Families whose input reaches a drop."""
    bases = [chain for chain in reader.base_chains(ours=True) if chain.hook == "input"]
    dropped = set()
    for family in FAMILIES:
        reader.begin()
        # Only a verdict by family has a key of one byte.
        key = bytes((_KEYS[family],))
        table = reader.table(_FAMILY, TABLE_BYTES, bases, only=key.__eq__)
        if droppings(table):
            dropped.add(family)
    return frozenset(dropped)


def structure_written(folder: Path) -> str | None:
    """The listing that the agent noted when it last wrote the table; None: there is none."""
    try:
        text = files.read(folder / "self.json", _AT_MOST).decode()
        held = json.loads(text[text.index("{") :])  # a checksum may come before it
    except (OSError, ValueError):
        return None
    seen = held.get("structure_seen") if isinstance(held, dict) else None
    return seen if isinstance(seen, str) else None
