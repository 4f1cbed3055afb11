"""The operators' list of hosts that are taken out: its writer and its reader."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.errors import RegistryError
from neti.registry.retired import (
    MAX_BYTES,
    Retired,
    RetiredUnreadable,
    added,
    as_read,
    decode,
    encode,
    without,
)

PLAIN = Retired(at=1_700_000_000, by="uid 0 on ops")
MOVED = Retired(at=1, by="", to="db-new", overlay=IPv4Address("192.168.0.7"))


def test_what_is_written_is_read() -> None:
    words = {"db-old": MOVED, "web-1": PLAIN, "web-2": PLAIN}
    assert decode(encode(words)) == words
    assert decode(added(encode({"web-1": PLAIN}), {"db-old": MOVED})) == {
        "web-1": PLAIN,
        "db-old": MOVED,
    }
    assert decode(without(encode(words), {"db-old", "nobody"})) == {"web-1": PLAIN, "web-2": PLAIN}
    assert without(encode(words), words) is None
    assert decode(None) == decode(b"") == {}


@given(st.binary(max_size=200))
def test_any_text_is_read_or_refused(raw: bytes) -> None:
    try:
        decode(raw)
    except RetiredUnreadable:
        assert as_read(raw) == {}


@pytest.mark.parametrize(
    "text",
    [
        '{"format":2,"words":[]}',
        '{"format":1}',
        '{"format":1,"words":[{"at":1}]}',
        '{"format":1,"words":[{"at":1,"ids":["a b"]}]}',
        '{"format":1,"words":[{"at":-1,"ids":["a"]}]}',
        '{"format":1,"words":[{"at":true,"ids":["a"]}]}',
        '{"format":1,"words":[{"at":1,"ids":["a"],"to":"b"}]}',
        '{"format":1,"words":[{"at":1,"ids":["a"],"to":"b","overlay":"x"}]}',
    ],
)
def test_a_list_is_read_whole_or_not_at_all(text: str) -> None:
    with pytest.raises(RetiredUnreadable):
        decode(text.encode())


def test_some_thousand_hosts_have_room_and_no_more_than_fit_are_taken() -> None:
    raw = added(None, {f"i-{number:017x}": PLAIN for number in range(2_500)})
    assert len(raw) <= MAX_BYTES
    with pytest.raises(RegistryError, match="no room to retire 400 more hosts: 2500 are retired"):
        added(raw, {f"j-{number:017x}": PLAIN for number in range(400)})


@pytest.mark.parametrize(
    "words",
    [
        {"web 2": PLAIN},
        {"db-old": Retired(at=1, by="", to="web 2", overlay=IPv4Address("192.168.0.7"))},
        {"db-old": Retired(at=1, by="", to="web-2")},
        {"db-old": Retired(at=-1, by="")},
    ],
)
def test_what_would_not_be_read_is_not_written(words: dict[str, Retired]) -> None:
    """One such word, and no agent reads the list any more."""
    with pytest.raises(RegistryError, match="nothing was written"):
        added(encode({"web-1": PLAIN}), words)
