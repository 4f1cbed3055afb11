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


def test_there_is_always_room_to_take_a_host_back() -> None:
    number = 2_500
    raw = encode({f"i-{n:017x}": PLAIN for n in range(number)})
    with contextlib.suppress(RegistryError):
        while True:
            number += 10
            raw = added(raw, {f"j-{number + n:017x}": PLAIN for n in range(10)})
    hosts = [*decode(raw)]
    for host_id in hosts[:20]:
        raw = without(raw, {host_id}, now=PLAIN.at + number)
        number += 1
    assert taken_back(raw).keys() == {*hosts[:20]}
    assert decode(raw).keys() == {*hosts[20:]}
    assert len(raw) < 65_000


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


def test_a_migration_tier_by_tier_has_as_much_room_as_one_command() -> None:
    """Each move has a word of its own. The oldest make room, and all stay out."""
    subnet = int(IPv4Address("192.168.0.0"))
    moves = {
        f"i-{number:017x}": Retired(
            at=1_700_000_000 + 90 * number,
            by="uid 0 on ops-1.example.net",
            to=f"j-{number:017x}",
            overlay=IPv4Address(subnet + number),
        )
        for number in range(1_500)
    }
    ids = [*moves]
    raw = encode({i: moves[i] for i in ids[:400]})
    for begin in range(400, 1_500, 20):
        raw = added(raw, {i: moves[i] for i in ids[begin : begin + 20]})
        assert len(raw) <= MAX_BYTES
    held = decode(raw)
    assert held.keys() == moves.keys()
    assert {i: held[i] for i in ids[-100:]} == {i: moves[i] for i in ids[-100:]}
    assert all(0 <= held[i].at - moves[i].at < 86_400 for i in ids)
    assert max(word.at for word in held.values()) == moves[ids[-1]].at
    assert held[ids[0]].to is None
