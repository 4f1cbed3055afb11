"""What ``neti explain`` says of a packet is what becomes of it by the table, in every cell.

The same without a kernel as tests/kernel/test_cells.py, and with other seeds.
"""

import pytest
from tests.support.cells import Case


@pytest.mark.parametrize("seed", [*range(1000, 1012), 20261128184])
def test_explain_says_what_the_table_does(seed: int) -> None:
    case = Case(seed)
    asked = [(cell, case.explained(cell), case.modelled(cell)) for cell in case.cells]
    assert not [f"{cell}: {said}" for cell, said, does in asked if said not in (None, does)]
    assert len(asked) > 100
