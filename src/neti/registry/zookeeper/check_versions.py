"""What a tree has not because an earlier version laid it out. Pure.

Must never do: call that a fault: such a fleet works as it did.
"""

from collections.abc import Iterable

from neti.registry.zookeeper.check_tree import Tree
from neti.registry.zookeeper.finding import Finding


def of_later_versions(tree: Tree) -> dict[str, tuple[str, str]]:
    """What an earlier version's tree has not: by path, what follows, and the finding's code."""
    return {
        tree.layout.keys: ("hosts cannot publish the keys of the encrypted road", "no-keys"),
        tree.layout.reports: (
            "every member may read what each host says of its stage and its problems",
            "no-reports",
        ),
    }


def laid_out_before(tree: Tree) -> Iterable[Finding]:
    for path, (follows, code) in of_later_versions(tree).items():
        if path not in tree.acls:
            yield Finding(
                "note",
                path,
                f"is missing, because an earlier version laid out this tree: {follows}",
                code,
                then="neti registry init",
            )
