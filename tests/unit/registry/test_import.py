"""The steps of 'neti registry import', in a tree of nodes in memory."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from kazoo.protocol.serialization import SetACL

from neti.registry import revoked
from neti.registry.export import Export, HeldKey
from neti.registry.zookeeper import import_plan, import_tree, rights
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.import_plan import ImportPlan
from neti.registry.zookeeper.init import InitPlan
from neti.registry.zookeeper.layout import Layout

LAYOUT = Layout.below(
    "/neti",
    iptoid="ip-to-id",
    idtoip="id-to-ip",
    ip_map="ip-map",
    interval="interval",
    maxchange="maxchange",
)

IN_FILE, BEFORE, LATER = ("ABC"[n] * 42 + "8" for n in range(3))
SINCE = revoked.added(revoked.added(None, BEFORE), LATER)


class Killed(Exception):
    """The process ends here."""


class Tree(Attempt):
    """``left``: how many more changes of rights the process lives to see."""

    def __init__(self, left: int = 100) -> None:
        self.left, self.opened = left, list[str]()

        self.written = list[tuple[str, bytes, int]]()

    def go_on(self) -> None:
        pass

    def acls(self, paths: Sequence[str], *, unread: set[str] | None = None) -> list[list[Any]]:
        return [[] for _ in paths]

    def nodes(
        self, paths: Sequence[str], *, unread: set[str] | None = None
    ) -> list[tuple[bytes, Any] | None]:
        assert paths == [LAYOUT.revoked]
        return [(SINCE, SimpleNamespace(version=7))]

    def each(self, requests: Sequence[Any]) -> list[Any]:
        self.written += [(one.path, one.data, one.version) for one in requests]
        return [None for _ in requests]

    def one(self, request: Any) -> None:
        assert isinstance(request, SetACL)
        if not self.left:
            raise Killed
        self.left -= 1
        if rights.world(request.acls) & rights.CREATE:
            self.opened.append(request.path)


class WithoutKeys(Attempt):
    """A tree without a place for public keys. ``members``: what they may do below entries."""

    def __init__(self, members: int) -> None:
        self.members = members

    def go_on(self) -> None:
        pass

    def acls(self, paths: Sequence[str], *, unread: set[str] | None = None) -> list[list[Any]]:
        assert paths == [LAYOUT.ip_map]
        return [rights.closed(("CN=chief",), members=self.members)]

    def read(self, paths: Sequence[str], *, unread: set[str] | None = None) -> list[bytes | None]:
        return [None for _ in paths]

    def exists(self, path: str) -> bool:
        return False


@pytest.mark.parametrize("lived", range(len(LAYOUT.open_to_members())))
def test_while_a_parent_is_closed_the_tree_counts_as_not_laid_out(lived: int) -> None:
    """The next import judges that by the parent of entries, and opens them all then."""
    tree, init = Tree(left=lived), InitPlan(("CN=chief",), ())
    with pytest.raises(Killed):
        import_tree.open_up(tree, LAYOUT, init, admission=False)
    assert LAYOUT.ip_map not in tree.opened
    again = Tree()
    import_tree.open_up(again, LAYOUT, init, admission=False)
    assert set(again.opened) == set(LAYOUT.open_to_members())


def test_a_key_that_is_revoked_while_an_import_runs_stays_revoked() -> None:
    file = revoked.added(None, IN_FILE)
    export = Export(leases=(), hosts=(), settings={"revoked": file.decode()})
    planned = ImportPlan(
        lays_out=False,
        leases=(),
        hosts=(),
        keys=(),
        settings={"revoked": revoked.joined(file, revoked.added(None, BEFORE)).decode()},
        differs=(),
    )
    tree = Tree()
    import_tree.carry_out(tree, LAYOUT, planned, export)
    ((path, data, version),) = tree.written
    assert (path, version) == (LAYOUT.revoked, 7)
    assert all(revoked.names(data, key) for key in (IN_FILE, BEFORE, LATER))


@pytest.mark.parametrize("laid_out", [True, False])
def test_what_lays_out_a_tree_makes_the_place_of_keys_and_keys(laid_out: bool) -> None:
    key = HeldKey(IN_FILE, "a")
    export = Export(leases=(), hosts=(), keys=(key,))
    tree = WithoutKeys(rights.READ | (rights.CREATE if laid_out else 0))
    planned = import_plan.plan(tree, LAYOUT, export, secure=True)
    assert planned.lays_out is not laid_out
    assert planned.keys == (() if laid_out else (key,))
    assert ["no place for public keys" in each for each in planned.differs] == [True] * laid_out
