"""What is an address, and nothing else."""

import pytest

from neti.model.addresses import is_address, is_network


@pytest.mark.parametrize("scope", ["eth0", "\x1b[31m", "\n- all"])
def test_what_python_takes_for_a_scope_is_no_part_of_an_address(scope: str) -> None:
    """It may be any text, and what is an address is printed as it is."""
    assert is_address("fe80::1")
    assert is_network("fe80::/128")
    assert not is_address(f"fe80::1%{scope}")
    assert not is_network(f"fe80::%{scope}/128")
