"""Random groups, policies, fleets and stages: what ``neti explain`` says of a first packet, what
the table in memory says, and what becomes of a real one is the same, for each source and port.

A seed that found something is played again by its number:

    NETI_CELLS=20261128017:1 .venv/bin/python -m pytest -m long tests/kernel/test_cells.py
"""

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import pytest
from tests.support.cells import Case, Cell
from tests.support.fate import Fate, fates
from tests.support.netns import require_root

from neti.model.openings import Openings

pytestmark = pytest.mark.kernel

FEW, MANY = 30, 200


@pytest.fixture(scope="module")
def fate() -> Iterator[Fate]:
    require_root()
    with fates() as made:
        yield made


def differences(fate: Fate, case: Case, cells: Iterable[Cell]) -> list[str]:
    """In words; what ``explain`` is not asked about is not compared with it."""
    asked = list(cells)
    real = fate.of(case, asked)
    found = []
    for cell in asked:
        said = {
            "kernel": real[cell],
            "memory": case.modelled(cell),
            "explain": case.explained(cell),
        }
        if len(set(said.values()) - {None}) > 1:
            found.append(f"seed {case.seed}: {cell}: {said}")
    return found


def played(fate: Fate, seeds: Iterable[int]) -> list[str]:
    found = []
    for seed in seeds:
        case = Case(seed)
        fate.load(case)
        found += differences(fate, case, case.cells)
    return found


def told(found: list[str]) -> str:
    return "\n".join((f"{len(found)} cells differ", *found[:20]))


def test_all_three_agree_in_every_cell(fate: Fate) -> None:
    found = played(fate, range(FEW))
    assert not found, told(found)


@pytest.mark.long
def test_all_three_agree_in_every_cell_of_today(fate: Fate) -> None:
    """Other seeds each day."""
    today = f"{datetime.now(UTC):%Y%m%d}000:{MANY}"
    first, _, number = os.environ.get("NETI_CELLS", today).partition(":")
    print(f"NETI_CELLS={first}:{number}")
    found = played(fate, range(int(first), int(first) + int(number)))
    assert not found, told(found)


# --- it can fail ---


def _broken_in(fate: Fate, where: str, chain: str) -> Case:
    """The first case in which this chain matters, broken in one of the three."""
    for seed in range(FEW):
        case = Case(seed)
        if chain not in case.table.chains or not case.enforcement:
            continue
        fate.load(case)
        if where == "memory":
            del case.table.chains[chain][chain == "members" :]
        elif where == "kernel":
            fate.nft(f"flush chain inet neti {chain}")
        elif chain == "openings":
            case.openings = Openings()
        else:
            case.settings = Case(seed + FEW).settings
        if differences(fate, case, case.cells):
            return case
    raise AssertionError(f"nothing that is broken in {where} is found")


@pytest.mark.parametrize("chain", ["members", "openings"])
@pytest.mark.parametrize("where", ["memory", "kernel", "explain"])
def test_what_is_broken_in_one_of_them_is_found(fate: Fate, where: str, chain: str) -> None:
    case = _broken_in(fate, where, chain)
    whole = Case(case.seed)
    fate.load(whole)
    assert not differences(fate, whole, whole.cells)
