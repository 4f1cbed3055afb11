"""A look at a tree that members have filled: it takes as long as it takes."""

from typing import Any, cast

from kazoo.exceptions import NodeExistsError
from kazoo.protocol.states import ZnodeStat

from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.check_tree import look_at_tree
from neti.registry.zookeeper.layout import Layout

LAYOUT = Layout.below(
    "/neti",
    iptoid="ip-to-id",
    idtoip="id-to-ip",
    ip_map="ip-map",
    interval="interval",
    maxchange="maxchange",
)
STAT = ZnodeStat(*([0] * 11))
_WITHIN_ONE_DEADLINE = 3 * 2000


class Filled:
    """An attempt that reaches its deadline after so many nodes, as a busy server's does."""

    def __init__(self, number: int) -> None:
        self._names = [f"j{n}" for n in range(number)]
        self._since = 0
        self.stat = STAT

    def go_on(self) -> None:
        self._since = 0

    def names(self, path: str, *, whole: bool = False) -> list[str]:
        return self._names if path == LAYOUT.agents else []

    def acls(self, paths: list[str], *, unread: set[str]) -> list[list[Any]]:
        self._count(paths)
        return [[] for _ in paths]

    def stats(self, paths: list[str]) -> list[Any]:
        self._count(paths)
        return [self.stat for _ in paths]

    def read(self, paths: list[str], *, unread: set[str]) -> list[bytes | None]:
        self._count(paths)
        return [None for _ in paths]

    def each(self, requests: list[Any]) -> list[Any]:
        return [NodeExistsError() for _ in requests]

    def _count(self, paths: list[str]) -> None:
        self._since += len(paths)
        assert self._since <= _WITHIN_ONE_DEADLINE


def test_no_number_of_nodes_ends_the_look_by_its_deadline() -> None:
    tree = look_at_tree(cast("Attempt", Filled(30_000)), LAYOUT, lambda: 0.0)
    assert len(tree.agents) == 30_000


def test_a_node_that_outlasts_any_session_does_not_hide_behind_the_checks_own_name() -> None:
    attempt = Filled(0)
    name = f".clock-{'0' * 32}"
    attempt._names = [name]
    path = f"{LAYOUT.agents}/{name}"
    assert look_at_tree(cast("Attempt", attempt), LAYOUT, lambda: 0.0).misnamed == (path,)
    attempt.stat = STAT._replace(ephemeralOwner=7)
    assert look_at_tree(cast("Attempt", attempt), LAYOUT, lambda: 0.0).misnamed == ()
    attempt.stat = attempt.stat._replace(numChildren=1)
    assert look_at_tree(cast("Attempt", attempt), LAYOUT, lambda: 0.0).misnamed == (path,)
