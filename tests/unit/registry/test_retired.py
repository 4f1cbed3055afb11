"""The operators' list of hosts that are taken out: its writer and its reader."""

import contextlib
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
    decode,
    encode,
    taken_back,
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
    fewer = without(encode(words), {"db-old", "nobody"}, now=7)
    assert decode(fewer) == {"web-1": PLAIN, "web-2": PLAIN}
    assert taken_back(fewer) == {"db-old": 7, "nobody": 7}
    assert decode(None) == decode(b"") == {}
    assert taken_back(None) == {}
    assert taken_back(encode(words)) == {}


def test_each_word_is_later_than_what_was_said_of_the_host_before() -> None:
    """Whatever the clocks of operators' machines say."""
    back = without(encode({"web-1": PLAIN}), {"web-1"}, now=5)
    assert taken_back(back) == {"web-1": PLAIN.at + 1}
    again = added(back, {"web-1": MOVED})
    assert decode(again)["web-1"].at == PLAIN.at + 2
    assert taken_back(again) == {}


def test_who_was_taken_back_longest_ago_makes_room() -> None:
    raw = encode({}, {f"i-{number:017x}": number for number in range(1_600)})
    full = added(raw, {f"j-{number:017x}": PLAIN for number in range(2_000)})
    assert len(full) <= MAX_BYTES
    assert len(decode(full)) == 2_000
    kept = taken_back(full)
    assert 100 < len(kept) < 1_600
    assert min(kept.values()) == 1_600 - len(kept)
    assert len(without(full, {"j-" + 17 * "0"}, now=2_000)) <= MAX_BYTES


@given(st.binary(max_size=200))
def test_any_text_is_read_or_refused(raw: bytes) -> None:
    with contextlib.suppress(RetiredUnreadable):
        decode(raw)


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
        '{"format":1,"words":[],"back":[{"at":1}]}',
        '{"format":1,"words":[],"back":[{"at":"1","ids":["a"]}]}',
        '{"format":1,"words":[],"back":7}',
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
        {"db-old": Retired(at=253_402_300_800, by="")},
    ],
)
def test_what_would_not_be_read_is_not_written(words: dict[str, Retired]) -> None:
    """One such word, and no agent reads the list any more."""
    with pytest.raises(RegistryError, match="nothing was written"):
        added(encode({"web-1": PLAIN}), words)
