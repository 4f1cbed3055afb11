"""Documents between processes and versions: what is written is read, by older and newer readers."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as some

from neti.model.document import DocumentError, plain, read
from neti.model.problems import Severity


@dataclass(frozen=True, slots=True)
class Inner:
    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    format: int = 1
    address: IPv4Address
    further: tuple[IPv4Address | IPv6Address, ...] = ()
    inner: Inner | None = None
    by_name: Mapping[str, Inner] = field(default_factory=dict)
    pairs: tuple[tuple[str, int], ...] = ()
    severity: Severity = Severity.NOTE
    stage: Literal["shadow", "enforced"] = "shadow"
    open: bool = False
    since: float | None = None


names = some.text(max_size=8)
inners = some.builds(Inner, names, some.floats(allow_nan=False, allow_infinity=False))
outers = some.builds(
    Outer,
    address=some.ip_addresses(v=4),
    further=some.lists(some.ip_addresses(), max_size=3).map(tuple),
    inner=some.none() | inners,
    by_name=some.dictionaries(names, inners, max_size=3),
    pairs=some.lists(some.tuples(names, some.integers()), max_size=3).map(tuple),
    severity=some.sampled_from(Severity),
    stage=some.sampled_from(["shadow", "enforced"]),
    open=some.booleans(),
    since=some.none() | some.floats(allow_nan=False, allow_infinity=False),
)


@given(outers)
def test_what_is_written_is_read(value: Outer) -> None:
    """Through JSON, as it goes over a socket or to a disk."""
    assert read(Outer, json.loads(json.dumps(plain(value)))) == value


@given(outers, some.dictionaries(some.text(min_size=20), some.integers(), max_size=3))
def test_a_newer_version_may_have_written_more(value: Outer, more: dict[str, int]) -> None:
    held = json.loads(json.dumps(plain(value))) | more
    if held["inner"] is not None:
        held["inner"] |= more
    held["pairs"] = [[*pair, "new"] for pair in held["pairs"]]
    assert read(Outer, held) == value


def test_an_older_version_wrote_less() -> None:
    assert read(Outer, {"address": "10.0.0.1"}) == Outer(address=IPv4Address("10.0.0.1"))


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ([], "Outer: expected an object, not a list"),
        ({}, "Outer: address is missing"),
        ({"address": "10.0.0"}, "Outer.address: expected an IPv4 address"),
        ({"address": 5000}, "Outer.address: expected an IPv4 address"),
        ({"inner": {}}, "Outer.inner: name is missing"),
        ({"inner": {"name": 3}}, "Outer.inner.name: expected text, not a whole number"),
        ({"by_name": {"a": None}}, "Outer.by_name.a: expected an object"),
        ({"pairs": [["a", 1], ["b"]]}, r"Outer.pairs\[1\]: expected a list of 2"),
        (
            {"pairs": [["a", True]]},
            r"pairs\[0\]\[1\]: expected a whole number, not true or",
        ),
        ({"severity": "loud"}, "Outer.severity: expected Severity"),
        ({"stage": "open"}, "Outer.stage: expected one of shadow, enforced"),
        ({"stage": ["shadow"]}, "Outer.stage: expected one of shadow, enforced"),
        ({"open": 1}, "Outer.open: expected true or false, not a whole number"),
        ({"open": None}, "Outer.open: expected true or false, not null"),
        ({"since": "1"}, "Outer.since: expected a number, not text"),
    ],
)
def test_what_does_not_fit_is_named(held: Any, says: str) -> None:
    """Never converted: ``"false"`` would be true."""
    if held and "address" not in held:
        held["address"] = "10.0.0.1"
    with pytest.raises(DocumentError, match=says):
        read(Outer, held)


json_values = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(),
    lambda inside: some.lists(inside) | some.dictionaries(some.text(), inside),
    max_leaves=8,
)


@given(some.dictionaries(some.sampled_from(list(Outer.__dataclass_fields__)), json_values))
def test_anything_else_is_a_document_error(held: dict[str, Any]) -> None:
    with contextlib.suppress(DocumentError):
        read(Outer, {"address": "10.0.0.1", **held})
