"""Who has filled the tree, as 'neti registry check' says it."""

from typing import Any

import pytest
from tests.unit.registry.test_check_records import ENTRY, LAYOUT, of_host, tree

from neti.registry.record import REVOKED, HostRecord
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.check_filled import judge_filled
from neti.registry.zookeeper.check_tree import Tree


def key(number: int) -> str:
    return f"{number:042d}8"


def filled(parent: str, names: list[str], owner: str | None = "CN=b", **parts: Any) -> Tree:
    acl = of_host(owner) if owner else list(rights.READ_ONLY)
    paths = [f"{parent}/{name}" for name in names]
    record = HostRecord(word=ENTRY, key=key(0))
    every: dict[str, Any] = {
        "sessions": dict.fromkeys(paths, 0),
        "vouched": {"a": ENTRY},
        **parts,
    }
    return tree({"a": record}, dict.fromkeys(paths, acl), **every)


@pytest.mark.parametrize("parent", LAYOUT.open_to_members())
def test_who_fills_a_node_is_named(parent: str) -> None:
    names = [f"n{number}" for number in range(101)]
    (found,) = judge_filled(filled(parent, names))
    assert (found.code, found.where, len(found.nodes)) == ("filled", parent, 101)
    assert "were made by CN=b" in found.sentence
    assert not list(judge_filled(filled(parent, names[1:])))


def test_who_hides_is_told_by_the_session() -> None:
    names = [f"n{number}" for number in range(200)]
    sessions = dict.fromkeys((f"/neti/ip-map/{name}" for name in names), 0xAB)
    (found,) = judge_filled(filled(LAYOUT.ip_map, names, None, sessions=sessions))
    assert "somebody who hides" in found.sentence
    assert "session 0xab" in found.sentence


def test_keys_in_use_and_revoked_ones_fill_nothing() -> None:
    names = [key(number) for number in range(150)]
    assert len(next(iter(judge_filled(filled(LAYOUT.keys, names)))).nodes) == 149
    held = dict.fromkeys(names, REVOKED)
    assert not list(judge_filled(filled(LAYOUT.keys, names, None, keys=held)))
