"""Which documents and reports have other rights than their hosts give, by one look at the tree.
Pure.

Whoever resumes a host's session makes nodes in it, and chooses their rights; and a former operator
keeps what he had of what was made in his time.
"""

from collections.abc import Iterable
from typing import Final

from neti.registry.zookeeper import rights
from neti.registry.zookeeper.check_tree import Tree
from neti.registry.zookeeper.finding import Finding
from neti.text import printable
from neti.words import counted, some

_NAMED: Final = 5


def unread_reports(tree: Tree) -> list[str]:
    """Of hosts that are registered: most often all of them, to an operator who was added."""
    return [path for path in map(tree.layout.report, sorted(tree.vouched)) if path in tree.unread]


def judge_unread(tree: Tree) -> Iterable[Finding]:
    if paths := unread_reports(tree):
        yield Finding(
            "fault",
            tree.layout.reports,
            f"{counted(len(paths), 'report')} of registered hosts may not be read by this client "
            f"({_some(paths)}). Where it became an operator after they were made, an operator from "
            "before runs 'neti registry init'; what that leaves no agent made",
            "unreadable",
            then="neti registry init",
            nodes=tuple(paths),
        )


def judge_documents(tree: Tree) -> Iterable[Finding]:
    """Of what anybody may write, and of where operators may do nothing, other findings tell."""
    layout = tree.layout
    known = rights.operators(tree.acls[layout.ip_map])
    odd, unread = list[str](), list[str]()
    for host_ids, path_of, others in (
        (tree.agents, layout.agent, rights.READ),
        (tree.reports, layout.report, 0),
    ):
        for path in map(path_of, sorted(host_ids)):
            acl = tree.acls.get(path, ())
            may = {*rights.operators(acl)} & {*known}
            if not may or rights.harmful(acl):
                continue
            if not rights.of_document(acl, known, others=others):
                odd.append(path)
            elif not others and may != {*known}:
                unread.append(path)
    if odd:
        yield Finding(
            "fault",
            layout.root or "/",
            f"{counted(len(odd), 'document or report', 'documents or reports')} may be read or "
            f"written by others than an agent lets ({_some(odd)}): by a former operator, or by "
            "somebody who made them in place of their hosts",
            "document-rights",
            then="neti registry init",
        )
    if unread:
        yield Finding(
            "warning",
            layout.reports,
            f"{counted(len(unread), 'report')} may not be read by all operators ({_some(unread)}), "
            "because some were added after it was made",
            "report-rights",
            then="neti registry init",
        )


def _some(paths: list[str]) -> str:
    return some([printable(path, 100) for path in paths], _NAMED)
