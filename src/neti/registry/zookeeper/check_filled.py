"""Who has made many nodes that no host uses, by one look at the tree. Pure.

Members may make nodes below seven parents, and neither ZooKeeper's rights nor its quotas limit how
many one certificate makes (docs/security.md). So whoever does is named.

Must never do: count what a host uses, or what an operator made.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from neti.registry.record import REVOKED
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.check_tree import Tree
from neti.registry.zookeeper.finding import Finding
from neti.text import printable

# So many of one certificate's are no accident: a host that has a new key every month needs eight
# years for them.
_MANY: Final = 100


def judge_filled(tree: Tree) -> Iterable[Finding]:
    """Rights say something only in a tree that has rights."""
    if rights.harmful(tree.acls.get(tree.layout.hosts, rights.OPEN)):
        return
    used = _used(tree)
    leases = tree.layout.ip_to_id, tree.layout.id_to_ip
    unused: dict[tuple[str, str], list[str]] = {}
    all_of: Counter[str] = Counter()
    for path in tree.all_made():
        parent = path.rpartition("/")[0]
        all_of[parent] += 1
        if path in used:
            continue
        owners = rights.owners(tree.acls.get(path, []))
        if owners or parent not in leases:  # leases of nobody are named by themselves
            unused.setdefault((parent, owners[0] if owners else ""), []).append(path)
    for (parent, owner), paths in unused.items():
        if len(paths) > _MANY:
            who = printable(owner, 100) if owner else "somebody who hides behind their rights"
            yield Finding(
                "warning",
                parent,
                f"{len(paths)} of the {all_of[parent]} nodes here were made by {who} and are used "
                f"by no host{_session(tree, paths)}: keep that certificate out, then delete them "
                "with 'neti registry remove' (--json has all of them)",
                "filled",
                then="neti registry check --json",
                nodes=tuple(paths),
            )


def _used(tree: Tree) -> set[str]:
    layout = tree.layout
    here = tree.agents | tree.vouched.keys()
    said = {record.key for record in tree.records.values() if record is not None and record.key}
    revoked = {key for key, holder in tree.keys.items() if holder == REVOKED}
    leased = tree.by_id.keys()
    return {
        *(layout.by_id(i) for i in leased if i in here),
        *(layout.by_overlay(o) for o, i in tree.by_overlay.items() if i in here),
        *(layout.host(i) for i in tree.records if i in leased or i in here),
        *map(layout.key, said | revoked),
        *map(layout.name, tree.vouched.values()),
        *(layout.agent(i) for i in tree.agents if i in tree.vouched),
        *(layout.report(i) for i in tree.reports if i in tree.vouched),
    }


def _session(tree: Tree, paths: list[str]) -> str:
    """By which most of them were made: the servers' logs have its address."""
    sessions = Counter(tree.sessions.get(path, 0) for path in paths)
    most, _ = sessions.most_common(1)[0]
    return f" (most by session 0x{most & 0xFFFFFFFFFFFFFFFF:x})" if most else ""
