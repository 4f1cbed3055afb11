"""Operators' names, as text, and what becomes of them with a lease."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.model.names import Names
from neti.registry.names import (
    MAX_BYTES,
    MAX_WRITTEN,
    NamesTooLong,
    NamesUnreadable,
    decode,
    encode,
    follow_lease,
)


def many(number: int) -> Names:
    return Names("", {f"n{one:060}": "a" for one in range(number)}, 5)


WHOLE = Names("neti.internal", {"db": "db-1", "a.b": "I-2"}, 7)


def held(**changed: Any) -> bytes:
    return json.dumps({**json.loads(encode(WHOLE)), **changed}).encode()


def test_it_is_read_as_it_was_written() -> None:
    assert decode(encode(WHOLE)) == WHOLE
    assert decode(encode(Names())) == decode(None) == Names()


def test_what_a_newer_version_adds_is_ignored() -> None:
    assert decode(held(more=1)) == WHOLE


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is not JSON"),
        (b"[" * 50_000, "is not JSON"),
        (b" " * (MAX_BYTES + 1), "is longer than 60,000 bytes"),
        (b"[]", "is no JSON object"),
        (held(format=2), "has format 2, not 1"),
        (held(suffix="a b"), 'has suffix "a b"'),
        (held(suffix=["x"]), "has suffix a list"),
        (held(suffix="x" * 300), "has suffix"),
        (held(names=[]), "has no names"),
        (held(names={"DB": "db-1"}), 'has a name "DB"'),
        (held(names={"10.0.0.1": "db-1"}), 'has a name "10.0.0.1"'),
        (held(names={"db\n10.0.0.1 x": "db-1"}), "has a name"),
        (held(names={"db": "-x"}), 'has "-x" for the name "db"'),
        (held(names={"db": {"id": 1}}), "has an object for the name"),
        (held(edition=-1), "has edition -1"),
        (held(edition=True), "has edition true"),
    ],
)
def test_what_is_no_document_of_names_says_why(raw: bytes, said: str) -> None:
    with pytest.raises(NamesUnreadable) as refused:
        decode(raw)
    assert said in str(refused.value)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: held(names={text: "a"})))
def test_nothing_but_its_own_error_is_raised(raw: bytes) -> None:
    with contextlib.suppress(NamesUnreadable):
        decode(raw)


def test_more_than_the_registry_holds_is_refused() -> None:
    with pytest.raises(NamesTooLong, match="nothing was changed"):
        encode(many(1000))


def test_a_document_that_was_too_long_already_gets_shorter() -> None:
    before = encode(many(800), b"x" * MAX_BYTES)
    assert MAX_WRITTEN < len(encode(many(799), before)) < len(before)
    with pytest.raises(NamesTooLong):
        encode(many(801), before)


def test_where_names_would_be_too_long_the_lease_moves_without_them() -> None:
    raw = encode(many(680))
    assert len(raw) <= MAX_WRITTEN
    assert follow_lease(raw, "a", "b", 0.0) is not None
    assert follow_lease(raw, "a", "b" * 40, 0.0) is None


def test_names_go_with_the_lease() -> None:
    names = Names("x.internal", {"db": "a", "mail": "a", "web": "b"}, 4)
    moved = follow_lease(encode(names), "a", "c", 0.0)
    assert moved is not None
    assert decode(moved) == Names("x.internal", {"db": "c", "mail": "c", "web": "b"}, 5)
    gone = follow_lease(encode(names), "a", None, 0.0)
    assert gone is not None
    assert decode(gone) == Names("x.internal", {"web": "b"}, 5)


@pytest.mark.parametrize("raw", [None, b"{", encode(Names("x.internal", {"db": "b"}, 4))])
def test_a_lease_without_names_changes_nothing(raw: bytes | None) -> None:
    assert follow_lease(raw, "a", "c", 0.0) is None


def test_names_that_go_with_a_lease_in_an_older_copy_are_later_than_all_that_hosts_know() -> None:
    """The copy's own next edition need not be: hosts would follow what was, without the move."""
    moved = follow_lease(encode(Names("", {"db": "a"}, 1_700_000_000)), "a", "c", 1_800_000_000.5)
    assert decode(moved).edition == 1_800_000_000
