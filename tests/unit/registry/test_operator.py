"""How commands read a large tree in ZooKeeper: however much members made in it."""

from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

import pytest

from neti.registry.zookeeper.registry import ZooKeeperRegistry

NODES = 30_000


class Tree:
    """Answers as an attempt does; one attempt has one deadline."""

    def __init__(self) -> None:
        self.in_one: list[int] = []
        self.listed: list[str] = []

    def attempt(self, operation: Any) -> Any:
        self.in_one.append(0)
        return operation(self)

    def names(self, path: str) -> list[str]:
        self.listed.append(path)
        if path.endswith("agents"):
            return [f"j{number}" for number in range(NODES)]
        return [str(IPv4Address("10.0.0.0") + number) for number in range(NODES)]

    def nodes(self, paths: list[str], *, unread: set[str]) -> list[tuple[bytes, Any]]:
        self.in_one[-1] += len(paths)
        # The later its address, the earlier it was written.
        stats = [SimpleNamespace(mzxid=-int(path[-1]), czxid=0, ephemeralOwner=0) for path in paths]
        return [(b"x", stat) for stat in stats]


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch) -> Tree:
    made = Tree()
    monkeypatch.setattr(ZooKeeperRegistry, "_attempt", lambda _, operation: made.attempt(operation))
    monkeypatch.setattr(
        "neti.registry.zookeeper.operator.Attempt.nodes",
        lambda attempt, paths, unread: attempt.nodes(paths, unread=unread),
    )
    return made


def test_no_deadline_is_for_all_nodes_together(tree: Tree) -> None:
    registry = ZooKeeperRegistry(["127.0.0.1:1"])
    assert len(registry.leases()) == NODES
    assert len(registry.details()) == NODES
    assert sum(tree.in_one) == 2 * NODES
    assert max(tree.in_one) <= 1_000


def test_what_is_not_asked_about_is_neither_listed_nor_read(tree: Tree) -> None:
    registry = ZooKeeperRegistry(["127.0.0.1:1"])
    assert [one.host_id for one in registry.details(["b1", "a2"])] == ["a2", "b1"]
    assert sum(tree.in_one) == 2
    assert tree.listed == []


def test_a_lease_is_as_old_as_its_last_write(tree: Tree) -> None:
    """Its maker can have kept the right to write, and made it name another host later."""
    ends = [str(overlay)[-1] for overlay in ZooKeeperRegistry(["127.0.0.1:1"]).leases()]
    assert ends == sorted(ends, reverse=True)
