"""Who would not be believed any more in strict mode."""

import pytest

from neti.fleet.unvouched import Unvouched, unvouched, vouches
from neti.registry import HostRead
from neti.registry.record import HostRecord

NAME = "1.0a000001c6336401c0a80001.1.ec2.a"
FORMER = "1.0a000001c6336401c0a80001.0.ec2.a"
RECORD = HostRead("a", HostRecord(word=NAME), 7)


def test_an_entry_that_its_record_names_vouches_for_itself() -> None:
    assert vouches(RECORD, NAME, 7)
    assert unvouched({"a": NAME}, {"a": RECORD}, {NAME: 7}) == []


@pytest.mark.parametrize(
    ("records", "name", "made"),
    [
        ({}, NAME, 7),
        ({"a": RECORD}, FORMER, 7),
        ({"a": RECORD}, NAME, 8),  # somebody made it anew under the same name
        ({"a": HostRead("a", None, 7)}, NAME, 7),
        ({"a": HostRead("a", HostRecord(word="left.1.a"), 7)}, NAME, 7),
        ({"b": RECORD}, NAME, 7),
    ],
)
def test_any_other_does_not(records: dict[str, HostRead], name: str, made: int) -> None:
    assert unvouched({"a": name}, records, {name: made}) == [Unvouched("a", name, "a" in records)]


def test_one_that_is_gone_meanwhile_is_in_nobodys_way() -> None:
    assert unvouched({"a": NAME}, {}, {}) == []
