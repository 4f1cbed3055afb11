"""WireGuard keys: the RFC's own answers, and both libraries say the same."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.dataplane.wireguard import keys
from neti.dataplane.wireguard.keys import new_key, public_half
from neti.model.wireguard_key import PrivateKey

WITHOUT_THE_PACKAGE = """
import sys
from neti.dataplane.wireguard.keys import new_key, public_half
public_half(new_key())
print("cryptography" in sys.modules)
"""


@pytest.mark.parametrize("openssl_is_there", [True, False])
def test_a_public_half_is_what_rfc_7748_says(
    openssl_is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 5.2, after one iteration: the private key is the base point, 9."""
    if not openssl_is_there:
        monkeypatch.setattr(keys, "_libcrypto", lambda: None)
    said = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    assert public_half(PrivateKey(bytes([9]).ljust(32, b"\0"))).raw.hex() == said


@given(st.binary(min_size=32, max_size=32))
def test_both_libraries_say_the_same(raw: bytes) -> None:
    assert keys._by_openssl(raw) == keys._by_library(raw)


def test_a_new_key_has_the_bits_that_a_device_sets() -> None:
    """Else what a device says back would be another key than it was given."""
    made = [new_key().raw for _ in range(64)]
    assert len(set(made)) == len(made)
    assert all(raw[0] & 7 == 0 and raw[31] & 192 == 64 for raw in made)


def test_no_package_is_loaded_for_a_key() -> None:
    """It would stay in an agent's memory, with 10 MB, for as long as the agent runs."""
    command = [sys.executable, "-c", WITHOUT_THE_PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
