"""The steps of 'neti registry import', in a tree of nodes in memory."""

from typing import Any

import pytest
from kazoo.protocol.serialization import SetACL

from neti.registry.zookeeper import import_tree, rights
from neti.registry.zookeeper.calls import Attempt
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


class Killed(Exception):
    """The process ends here."""


class Tree(Attempt):
    """``left``: how many more changes of rights the process lives to see."""

    def __init__(self, left: int = 100) -> None:
        self.left, self.opened = left, list[str]()

    def one(self, request: Any) -> None:
        assert isinstance(request, SetACL)
        if not self.left:
            raise Killed
        self.left -= 1
        if rights.world(request.acls) & rights.CREATE:
            self.opened.append(request.path)


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
