"""A host's own record, as it is written and read."""

import pytest

from neti.registry.record import HostRecord, decode, encode

KEY = "-_" * 21 + "0"
SAID = HostRecord(word="1.0a000001c6336401c0a80001.0.ec2.a", machine="00ff", key=KEY)


def test_a_key_comes_back_as_it_was_written() -> None:
    assert decode(encode(SAID)) == SAID


def test_whatever_else_a_later_version_says_is_left_out() -> None:
    assert decode(encode(SAID).replace(b" key=", b" port=7 key=") + b" colour=blue") == SAID


@pytest.mark.parametrize(
    "bad", ["", KEY[:-1], KEY + "0", KEY[:-1] + "=", KEY[:-1] + "/", KEY[:-1] + "1"]
)
def test_what_is_no_key_is_none_and_spoils_nothing_else(bad: str) -> None:
    read = decode(encode(SAID).replace(KEY.encode(), bad.encode()))
    assert read == HostRecord(word=SAID.word, machine=SAID.machine)


def test_a_record_that_says_the_key_twice_has_the_first() -> None:
    assert decode(encode(SAID) + b" key=" + b"A" * 43) == SAID
