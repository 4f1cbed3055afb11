"""What is wrong with a tree, by one look at it, and what an operator can do about it. Pure.

Must never do: tell an operator to delete what an honest host made because of what another one
wrote, or build a command of foreign text but by ``removal`` and ``text.command``.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from neti.errors import EntryError
from neti.model import Departure, Member, entry
from neti.registry.record import HostRecord
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.check_documents import judge_documents, judge_unread, unread_reports
from neti.registry.zookeeper.check_filled import judge_filled
from neti.registry.zookeeper.check_outside import judge_outside
from neti.registry.zookeeper.check_records import judge_records
from neti.registry.zookeeper.check_tree import Tree
from neti.registry.zookeeper.check_versions import laid_out_before, of_later_versions
from neti.registry.zookeeper.finding import Finding
from neti.registry.zookeeper.layout import Layout
from neti.text import command, printable
from neti.words import and_more, counted

_STOCK_BUFFER: Final = 0xFFFFF  # jute.maxbuffer
_CLOCK_SECONDS: Final = 5.0
_NAMED: Final = 5
_OWNERS_NAMED: Final = 3


def judge_tree(tree: Tree, *, secure: bool) -> list[Finding]:
    absent = [path for path in tree.layout.parents() if path not in tree.acls]
    absent = [path for path in absent if path not in of_later_versions(tree)]
    if absent:
        wiped = (
            "is missing. If the registry was wiped: 'neti registry import FILE', before anything "
            "else, gives every id and every address back to its owner. If this fleet is new: "
            "'neti registry init' lays out the tree"
        )
        is_wiped = tree.layout.ip_map in absent
        return [
            Finding(
                "fault",
                absent[0],
                wiped if is_wiped else "is missing: 'neti registry init' makes it",
                "missing",
            )
        ]
    found = [
        *laid_out_before(tree),
        *_open(tree, secure=secure),
        *_halves(tree),
        *_owners(tree),
        *_nailed(tree),
        *_unread(tree),
        *_lasting(tree),
        *judge_records(tree),
    ]
    named = {path for one in found for path in one.nodes}
    return [
        *found,
        *_without_rights(tree, named | set(tree.misnamed)),
        *_strangers(tree),
        *_goodbyes(tree),
        *judge_filled(tree),
        *judge_documents(tree),
        *judge_unread(tree),
        *(judge_outside(tree) if secure else ()),
        *_size(tree),
        *_time(tree),
    ]


def _open(tree: Tree, *, secure: bool) -> Iterable[Finding]:
    # Nodes above our own root are not ours to judge.
    own = tree.layout.root + "/"
    harmful = [
        p for p, acl in tree.acls.items() if (p + "/").startswith(own) and rights.harmful(acl)
    ]
    known = {str(one.id) for one in rights.operators(tree.acls[tree.layout.ip_map])}
    made = set(tree.all_made())
    stuck = [
        p
        for p in harmful
        if secure and p in made and not rights.granted(tree.acls[p], known) & rights.ADMIN
    ]
    closable = sorted(set(harmful) - set(stuck))
    severity = "fault" if secure else "warning"
    if closable:
        mend = (
            "'neti registry init' closes them"
            if secure
            else "without registry_tls there is nobody to give rights to: see docs/security.md"
        )
        yield Finding(
            "fault" if severity == "fault" else "warning",
            tree.layout.root or "/",
            f"{counted(len(closable), 'node')} can be written or emptied by anyone who gets in "
            f"({_some(closable)}): {mend}",
            "open-nodes",
        )
    if stuck:
        yield Finding(
            "fault",
            tree.layout.root or "/",
            f"{counted(len(stuck), 'node')} can be written or emptied by anyone who gets in, and "
            f"operators may not change that ({_some(stuck)}): no agent makes such a node",
            "open-nodes",
            nodes=tuple(stuck),
        )


def _halves(tree: Tree) -> Iterable[Finding]:
    layout = tree.layout
    for overlay, host_id in tree.by_overlay.items():
        if tree.by_id.get(host_id) != overlay:
            path = layout.by_overlay(overlay)
            yield Finding(
                "fault",
                path,
                f"says {host_id}, whose own half says {tree.by_id.get(host_id) or 'nothing'}: half "
                "a lease, which keeps the address from everybody",
                "half-lease",
                nodes=(path,),
            )
    for host_id, held in tree.by_id.items():
        other = tree.by_overlay.get(held) if held is not None else None
        if other != host_id:
            path = layout.by_id(host_id)
            yield Finding(
                "fault",
                path,
                f"says {held or 'no address'}, whose own half says {other or 'nothing'}: half a "
                f"lease, so {host_id} gets no address",
                "half-lease",
                then="" if path in tree.below else command("neti lease release", host_id),
                nodes=(path,),
            )
    expected = {i for i, record in tree.records.items() if record == HostRecord()}
    stale = sorted(tree.by_id.keys() - tree.agents - expected)
    if stale:
        leases = counted(len(stale), "lease is", "leases are")
        yield Finding(
            "note",
            layout.id_to_ip,
            f"{leases} of hosts that are not registered now ({_some(stale)}): "
            "'neti lease release ID' those that will not come back",
            "unregistered",
        )


def _owners(tree: Tree) -> Iterable[Finding]:
    """All nodes of one host belong to one subject."""
    layout = tree.layout
    nodes: dict[str, list[str]] = {}
    for host_id, overlay in tree.by_id.items():
        nodes[host_id] = [*_written_by(layout, host_id), layout.by_id(host_id)]
        if overlay is not None and tree.by_overlay.get(overlay) == host_id:
            nodes[host_id].append(layout.by_overlay(overlay))
    for name in tree.names:
        member = _parsed(name)
        if isinstance(member, Member):
            own = nodes.setdefault(member.id, _written_by(layout, member.id))
            own.append(layout.name(name))
    for host_id, paths in nodes.items():
        subjects = {s: path for path in paths for s in rights.owners(tree.acls.get(path, []))}
        if len(subjects) > 1:
            first = sorted(subjects.items())[:_OWNERS_NAMED]
            said = "; ".join(f"{path} belongs to {printable(who, 100)}" for who, path in first)
            yield Finding(
                "fault",
                host_id,
                f"its nodes belong to different certificates: {said}"
                f"{and_more(len(subjects) - len(first))}. One is not this host's, or it has "
                "another certificate now. Delete what another made ('neti registry remove NODE'), "
                "or release the host's lease and let it register",
                "owners",
            )


def _written_by(layout: Layout, host_id: str) -> list[str]:
    return [layout.host(host_id), layout.agent(host_id), layout.report(host_id)]


def _nailed(tree: Tree) -> Iterable[Finding]:
    known = {str(one.id) for one in rights.operators(tree.acls[tree.layout.ip_map])}
    for path, number in tree.below.items():
        may = path in tree.acls and rights.granted(tree.acls[path], known) & rights.DELETE
        yield Finding(
            "fault",
            path,
            f"has {counted(number, 'node')} below it, which no agent makes: "
            + (
                "it cannot be deleted without them"
                if may
                else "its maker lets no operator delete them, so only ZooKeeper's super user can "
                "(docs/security.md)"
            ),
            "children",
            nodes=(path,),
        )


def _unread(tree: Tree) -> Iterable[Finding]:
    for path in sorted(tree.unread - tree.below.keys() - {*unread_reports(tree)}):
        yield Finding(
            "fault",
            path,
            "does not let this client read it, so nothing more is known of it: no agent makes such "
            "a node",
            "unreadable",
            nodes=(path,),
        )


def _lasting(tree: Tree) -> Iterable[Finding]:
    """An agent's own nodes end with its session: these would stand for good."""
    layout = tree.layout
    of_hosts = tree.acls.get(layout.hosts, ())
    locked = bool(of_hosts) and not rights.harmful(of_hosts)  # by the record, not by this node
    for path, session in tree.sessions.items():
        parent, _, name = path.rpartition("/")
        keeps_out = parent == layout.agents and name in tree.agents
        hides = parent == layout.reports and name in tree.reports
        speaks = parent == layout.ip_map and _parsed(name) is not None
        if (
            session
            or path in tree.below
            or path in tree.unread
            or not (keeps_out or speaks or hides)
        ):
            continue
        yield Finding(
            "fault",
            path,
            "belongs to no session, so it never ends by itself, and no agent makes one like it"
            + (_kept_out(name, locked=locked) if keeps_out else "")
            + (f": the host {name} cannot tell its stage and problems here" if hides else ""),
            "no-session",
            nodes=(path,),
        )


def _kept_out(host_id: str, *, locked: bool) -> str:
    if locked:
        return f": the host {host_id} cannot tell its name and version here"
    return f": it keeps the host {host_id} from registering"


def _without_rights(tree: Tree, named: set[str]) -> Iterable[Finding]:
    operators = {one.id for one in rights.operators(tree.acls[tree.layout.ip_map])}
    if not operators:
        return
    shut = [
        path
        for path in tree.all_made()
        if path not in named
        and path in tree.acls
        and not operators & {one.id for one in rights.operators(tree.acls[path])}
    ]
    if shut:
        yield Finding(
            "warning",
            tree.layout.root or "/",
            f"on {counted(len(shut), 'node')} operators have no rights ({_some(shut)}): no agent "
            "makes such a node. It can be deleted as long as nothing stands below it",
            "no-rights",
            nodes=tuple(shut),
        )


def _strangers(tree: Tree) -> Iterable[Finding]:
    layout = tree.layout
    for parent, what in (
        (layout.ip_map, "no entries"),
        (layout.ip_to_id, "no addresses"),
        (layout.id_to_ip, "no host ids"),
        (layout.agents, "no host ids"),
        (layout.hosts, "no host ids"),
        (layout.keys, "no public keys"),
        (layout.reports, "no host ids"),
    ):
        if parent == layout.ip_map:
            junk = [f"{parent}/{name}" for name in tree.names if _parsed(name) is None]
        else:
            junk = [path for path in tree.misnamed if path.rpartition("/")[0] == parent]
        if junk:
            names = [path.rpartition("/")[2] for path in junk]
            yield Finding(
                "warning",
                parent,
                f"{counted(len(junk), 'name is', 'names are')} {what} ({_some(names)}): agents "
                "skip them, and whatever they look like, they stand for nobody",
                "junk-names",
                nodes=tuple(junk),
            )


def _goodbyes(tree: Tree) -> Iterable[Finding]:
    """Who comes back is of a later generation than its goodbye."""
    parsed = {name: _parsed(name) for name in tree.names}
    members = [member for member in parsed.values() if isinstance(member, Member)]
    generations: dict[str, int] = {}
    for member in members:
        generations[member.id] = max(member.generation, generations.get(member.id, -1))
    for name, said in parsed.items():
        if not isinstance(said, Departure) or said.id not in generations:
            continue
        if said.generation >= generations[said.id]:
            path = tree.layout.name(name)
            yield Finding(
                "warning",
                path,
                f"is a goodbye of {said.id}, which is registered: with it a crash of that host "
                "counts as leaving, and its peers drop it at once; if it stays, another wrote "
                "it: see docs/security.md",
                "goodbye",
                nodes=(path,),
            )


def _size(tree: Tree) -> Iterable[Finding]:
    size = sum(4 + len(name.encode()) for name in tree.names)
    if size > 0.8 * _STOCK_BUFFER:
        yield Finding(
            "warning",
            tree.layout.ip_map,
            f"listing its {len(tree.names)} names takes {size} bytes, and a stock client takes "
            f"{_STOCK_BUFFER} (jute.maxbuffer): remove what is no entry, or raise jute.maxbuffer",
            "listing",
        )


def _time(tree: Tree) -> Iterable[Finding]:
    if tree.clock_ahead is not None and abs(tree.clock_ahead) > _CLOCK_SECONDS:
        way = "ahead of" if tree.clock_ahead > 0 else "behind"
        yield Finding(
            "warning",
            "clock",
            f"the server's clock is {abs(tree.clock_ahead):.0f} s {way} this host's: one is wrong, "
            "and certificates are judged by it",
            "clock",
        )


def _parsed(name: str) -> object | None:
    try:
        return entry.parse(name)
    except EntryError:
        return None


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name, 100) for name in names[:_NAMED])
    return shown + (", …" if len(names) > _NAMED else "")
