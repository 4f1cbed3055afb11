"""What is wrong with hosts' own records, by one look at the tree. Pure.

Must never do: take an entry for forged that its own host made.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from neti.errors import EntryError
from neti.model import Member, entry
from neti.model.entry import HOST_ID
from neti.registry.record import REVOKED, HostRecord
from neti.registry.revoked import CHARS
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.check_tree import Tree
from neti.registry.zookeeper.finding import Finding
from neti.text import command, printable
from neti.words import counted, some

# So many entries of one host may stand until its session ends, and some more.
_MOST_STANDING: Final = 10
_BEYOND: Final = rights.CREATE | rights.DELETE | rights.ADMIN


def judge_records(tree: Tree) -> list[Finding]:
    """Rights and owners say something only in a tree that has rights."""
    found = [*_unfinished(tree), *_formats(tree), *_not_here_yet(tree), *_ending(tree)]
    if not rights.harmful(tree.acls.get(tree.layout.hosts, rights.OPEN)):
        found += [*_rights(tree), *_shared(tree), *_forged(tree)]
        found += [*_of_nobody(tree), *_of_leases(tree), *_borrowed(tree)]
    return found


def _unfinished(tree: Tree) -> Iterable[Finding]:
    if tree.unfinished:
        yield Finding(
            "fault",
            tree.layout.hosts,
            "is not finished: 'neti registry init' was interrupted before all hosts with a lease "
            "had their records, so hosts without one cannot register",
            "unfinished",
            then="neti registry init",
        )


def _rights(tree: Tree) -> Iterable[Finding]:
    known = set(rights.operators(tree.acls[tree.layout.ip_map]))
    for host_id in tree.records:
        path = tree.layout.host(host_id)
        acl = tree.acls.get(path, [])
        beyond = [e for e in acl if e.id not in known and e.perms & _BEYOND]
        others = rights.world(acl) & rights.WRITE
        if not (beyond or others):
            continue
        who = some([printable(str(e.id.id), 100) for e in beyond]) if beyond else "anybody"
        owners = rights.owners(acl)
        # Whoever else may change the rights can only be overruled by an operator who may, too.
        mends = len(owners) == 1 and known & set(rights.operators(acl))
        yield Finding(
            "fault",
            path,
            f"may be written, emptied or given away by {who}, which no agent allows: it proves "
            f"nothing about {host_id}",
            "record-rights",
            then=command("neti registry admit", host_id, owners[0]) if mends else "",
            nodes=(path,),
        )


def _of_leases(tree: Tree) -> Iterable[Finding]:
    known = set(rights.operators(tree.acls[tree.layout.ip_map]))
    halves = [(tree.layout.by_id(i), i) for i in tree.by_id]
    halves += [(tree.layout.by_overlay(o), i) for o, i in tree.by_overlay.items()]
    for path, host_id in halves:
        acl = tree.acls.get(path, [])
        others = [e for e in acl if e.id not in known and e.perms & ~rights.READ]
        if not others or rights.harmful(acl):  # of these another finding tells
            continue
        who = some([printable(str(e.id.id), 100) for e in others])
        owners = rights.owners(acl)
        mends = len(owners) == 1 and known & set(rights.operators(acl))
        yield Finding(
            "fault",
            path,
            f"may be written by {who}, who can make it another host's lease by that: no agent "
            "gives such rights, and no agent registers with such a lease",
            "lease-rights",
            then=_mended(host_id, owners, mends=bool(mends)),
            nodes=(path,),
        )


def _mended(host_id: str, owners: list[str], *, mends: bool) -> str:
    """``mends``: operators may change the rights."""
    if not HOST_ID.fullmatch(host_id):
        return ""
    if mends:
        return command("neti registry admit", host_id, owners[0])
    return command("neti lease release", host_id)


def _shared(tree: Tree) -> Iterable[Finding]:
    ids: dict[str, list[str]] = {}
    for host_id in tree.records:
        for subject in rights.owners(tree.acls.get(tree.layout.host(host_id), [])):
            ids.setdefault(subject, []).append(host_id)
    for subject, several in ids.items():
        if len(several) > 1:
            yield Finding(
                "fault",
                printable(subject, 100),
                f"owns the records of {len(several)} hosts ({some(several)}): whoever has its key "
                "speaks for all of them. Where these hosts share it, it is no identity: give each "
                "a certificate of its own and 'neti registry admit --replace ID SUBJECT'. Where "
                "one of them is no host of yours, a member may have made its record, whose maker "
                "chooses the owner: 'neti lease release ID'",
                "shared-certificate",
            )


def _forged(tree: Tree) -> Iterable[Finding]:
    """Beside the entry that a record names, or of a host that registered and is gone."""
    entries = {name: member for name in tree.names if (member := _member(name)) is not None}
    many = Counter(member.id for member in entries.values())
    for name, member in entries.items():
        path, own = tree.layout.name(name), tree.vouched.get(member.id)
        if path not in tree.sessions or own == name:
            continue
        if own is None and not _is_nobodys(tree, member, path, many[member.id]):
            continue
        if own is not None and _is_former(tree, member, own, path):
            continue
        named = "another one" if own is not None else "none that stands"
        yield Finding(
            "fault",
            path,
            f"is no entry of {member.id}, whose record names {named}. {_whose(tree, path)}",
            "forged",
            nodes=(path,),
        )


def _borrowed(tree: Tree) -> Iterable[Finding]:
    """An agent publishes a key and takes hold of it in one step."""
    for host_id, record in tree.records.items():
        if record is None or not record.key:
            continue
        holder = tree.keys.get(record.key)
        if holder == REVOKED or record.key[:CHARS] in tree.revoked:
            yield Finding(
                "warning",
                tree.layout.host(host_id),
                "says a public key that an operator has revoked: its agent has not registered with "
                "another one since. 'neti lease release' makes peers let it go at once",
                "key-revoked",
            )
        elif holder != host_id:
            held = f"belongs to {printable(holder, 100)}" if holder else "nobody holds"
            yield Finding(
                "fault",
                tree.layout.host(host_id),
                f"says a public key that {held}, which no agent does: peers send nothing to "
                f"{host_id} by it",
                "key-of-another",
            )


def _is_former(tree: Tree, member: Member, own: str, path: str) -> bool:
    """It is of the same session, and of an older generation: whoever resumes that session can make
    others in it."""
    named = _member(own)
    same = tree.sessions[path] == tree.sessions.get(tree.layout.name(own))
    return same and named is not None and member.generation < named.generation


def _is_nobodys(tree: Tree, member: Member, path: str, many: int) -> bool:
    """Agents of a version before records name nothing, and have one entry that is their host's, or
    a few until their session ends."""
    record = tree.records.get(member.id)
    if record is None or not record.word:
        return False
    pinned = rights.owners(tree.acls.get(tree.layout.host(member.id), []))
    return many > _MOST_STANDING or rights.owners(tree.acls.get(path, [])) != pinned


def _whose(tree: Tree, path: str) -> str:
    """By its rights, and these are chosen by whoever makes it."""
    owners = rights.owners(tree.acls.get(path, []))
    if not owners:
        return "Its maker hides"
    return f"Its rights name {some([printable(o, 100) for o in owners])}, as its maker chose"


def _formats(tree: Tree) -> Iterable[Finding]:
    odd = [host_id for host_id, record in tree.records.items() if record is None]
    if odd:
        yield Finding(
            "warning",
            tree.layout.hosts,
            f"{counted(len(odd), 'record is', 'records are')} in a format that this version does "
            f"not know ({some(odd)}): these hosts run a later version, or wrote nonsense. Agents "
            "of this version take such a record for none",
            "record-format",
        )


def _ending(tree: Tree) -> Iterable[Finding]:
    for host_id in tree.records:
        path = tree.layout.host(host_id)
        if tree.sessions.get(path):
            yield Finding(
                "fault",
                path,
                "ends with the session that made it, and a record is for good, so no agent makes "
                "one like it",
                "record-session",
                nodes=(path,),
            )


def _not_here_yet(tree: Tree) -> Iterable[Finding]:
    idle: Sequence[str] = [
        host_id
        for host_id, record in tree.records.items()
        if record is not None and not record.word and host_id not in tree.agents
        if record == HostRecord() or host_id not in tree.by_id
    ]
    if idle:
        yield Finding(
            "note",
            tree.layout.hosts,
            f"{counted(len(idle), 'record is', 'records are')} of hosts that have not registered "
            f"({some(idle)}): admitted and not here yet, or gone. 'neti lease release' gives up "
            "the address, and where admission is on 'neti registry remove' then takes that back",
            "not-here-yet",
        )


def _of_nobody(tree: Tree) -> Iterable[Finding]:
    """Whole leases without an owner: moved to an id that nobody had yet, or made while everything
    was open."""
    layout = tree.layout
    leased = [
        host_id
        for host_id, overlay in tree.by_id.items()
        if overlay is not None and tree.by_overlay.get(overlay) == host_id
        for halves in [(layout.by_id(host_id), layout.by_overlay(overlay))]
        if all(path in tree.acls for path in halves)
        and not any(rights.owners(tree.acls[path]) for path in halves)
    ]
    owners = {i: rights.owners(tree.acls.get(layout.host(i), [])) for i in leased}
    for known in (True, False):
        ids = [host_id for host_id in leased if bool(owners[host_id]) == known]
        if not ids:
            continue
        first, count = ids[0], counted(len(ids), "lease belongs", "leases belong")
        so = (
            "The record tells whose the id is; once that is lost, nothing does"
            if known
            else "There is no record either, so whoever registers first under such an id gets it, "
            "with its address"
        )
        yield Finding(
            "warning",
            layout.id_to_ip,
            f"{count} to no certificate ({some(ids)}): moved to an id that had not registered, or "
            f"made while everything was open. {so}",
            "lease-of-nobody",
            then=command("neti registry admit", first, owners[first][0] if known else "SUBJECT"),
        )


def _member(name: str) -> Member | None:
    try:
        parsed = entry.parse(name)
    except EntryError:
        return None
    return parsed if isinstance(parsed, Member) else None
