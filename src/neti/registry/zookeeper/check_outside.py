"""What members may do beside the tree, to ZooKeeper's own nodes, by one look at them. Pure.

Must never do: call it a fault. Another program may need it, and Neti's own nodes stay as they are.
"""

from collections.abc import Iterable

from neti.registry.zookeeper import rights
from neti.registry.zookeeper.check_tree import Tree
from neti.registry.zookeeper.finding import Finding
from neti.text import printable
from neti.words import some

_ALLOWED = rights.READ


def judge_outside(tree: Tree) -> Iterable[Finding]:
    """In a tree without rights there is nobody to give them to."""
    known = rights.operators(tree.acls[tree.layout.ip_map])
    if not known:
        return
    open_to_all = [p for p, acl in tree.outside.items() if rights.world(acl) & ~_ALLOWED]
    if open_to_all:
        subjects = {str(one.id) for one in known}
        mends = all(rights.granted(tree.outside[p], subjects) & rights.ADMIN for p in open_to_all)
        yield Finding(
            "note",
            ", ".join(open_to_all),
            "anyone who gets in may make nodes there, take the rights of these nodes, and set "
            "quotas for paths of this tree. Close them if no other program uses these servers",
            "open-root",
            then="neti registry init --close-root" if mends else "",
        )
    for path, acl in tree.outside.items():
        others = [e.id for e in acl if e.perms & ~_ALLOWED and e.id not in known]
        named = [printable(str(one.id), 100) for one in others if one.scheme != "world"]
        if named:
            yield Finding(
                "warning",
                path,
                f"{some(named)} may make nodes there or change its rights, which no server lets "
                "anybody do by itself. If that is no program of yours, a member took it",
                "root-rights",
                then="neti registry init --close-root",
            )
