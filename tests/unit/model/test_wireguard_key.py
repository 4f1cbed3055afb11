"""One key has one name, and a private one none at all."""

import base64
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as some

from neti.model.wireguard_key import PrivateKey, PublicKey

RAW = some.binary(min_size=32, max_size=32)


@given(RAW)
def test_a_key_is_read_in_either_alphabet(raw: bytes) -> None:
    key = PublicKey(raw)
    assert PublicKey.parse(str(key)) == key
    assert len(str(key)) == 43
    for text in (base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()):
        assert PublicKey.parse(text) == PublicKey.parse(text.rstrip("=")) == key
    assert PrivateKey.parse(PrivateKey(raw).text()) == PrivateKey(raw)


@given(RAW, some.integers(1, 3))
def test_another_text_of_the_same_bytes_is_no_key(raw: bytes, more: int) -> None:
    """Otherwise one key could be published by two hosts under two names."""
    text = str(PublicKey(raw))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = text[:-1] + alphabet[alphabet.index(text[-1]) + more]
    assert base64.urlsafe_b64decode(twin + "=") == raw
    with pytest.raises(ValueError, match="last character"):
        PublicKey.parse(twin)


@pytest.mark.parametrize(
    "text", ["", "A" * 42, "A" * 44, "A" * 42 + "é", "A" * 42 + "\n", "A" * 43 + "=="]
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="43 characters"):
        PublicKey.parse(text)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        PublicKey(bytes(length))


def test_a_private_key_is_not_shown() -> None:
    """Not in a traceback of its reader either."""
    raw = bytes(range(100, 132))
    key = PrivateKey(raw)
    wrong = key.text()[:-2] + "!="
    try:
        PrivateKey.parse(wrong)
    except ValueError as error:
        said = "".join(traceback.format_exception_only(error))
    for text in (repr(key), str(key), f"{key}", said):
        assert key.text()[:20] not in text
        assert repr(raw) not in text


@given(some.binary(min_size=32, max_size=32))
def test_what_a_record_says_is_the_same_key_either_way(raw: bytes) -> None:
    said = str(PublicKey(raw))
    assert PublicKey.of_record(said) == PublicKey.parse(said) == PublicKey(raw)


@pytest.mark.parametrize("text", ["A", "A" * 42, "A" * 44])
def test_what_is_no_key_is_none_in_a_record_either(text: str) -> None:
    with pytest.raises(ValueError, match=r"32 bytes|padding|characters"):
        PublicKey.of_record(text)
