"""The operators' word about strict mode, as text."""

import pytest

from neti.registry.strict import Strict, decode, encode
from neti.registry.untrusted import bounded_setting

NOON = 1_764_244_800.0


@pytest.mark.parametrize("on", [True, False])
def test_it_is_read_as_it_was_written(on: bool) -> None:
    raw = encode(on=on, now=NOON)
    assert decode(bounded_setting("strict", raw)) == Strict(on, "2025-11-27T12:00:00Z")


@pytest.mark.parametrize(
    "raw", [None, b"", b"on", b"yes 2025-11-27T12:00:00Z", b"off soon", b"\xff", b"on " * 99]
)
def test_what_is_no_such_word_says_nothing(raw: bytes | None) -> None:
    assert decode(raw) is None
