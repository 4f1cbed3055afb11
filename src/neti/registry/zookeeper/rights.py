"""Who may do what in ZooKeeper's tree: the rights of new nodes, and what an ACL lets whom do. Pure.

The tree itself says what the rights are: a node below a parent that anyone may empty is as open as
the parent. Below a closed one, a node belongs to its maker (its certificate's subject), operators
may do everything, and everybody else may read. So agents need no configuration for it.

Must never do: give a member the right to write a lease. Anyone who can write a lease can give it
to another id, and then speak for that id.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from kazoo.protocol.serialization import read_string
from kazoo.security import ACL, ANYONE_ID_UNSAFE, OPEN_ACL_UNSAFE, Id, Permissions

READ: Final = Permissions.READ
WRITE: Final = Permissions.WRITE
CREATE: Final = Permissions.CREATE
DELETE: Final = Permissions.DELETE
ADMIN: Final = Permissions.ADMIN
ALL: Final = Permissions.ALL
_HARM: Final = Permissions.WRITE | Permissions.DELETE | Permissions.ADMIN
_CREATOR: Final = Id("auth", "")  # the server writes the session's own subject instead

Rights = Sequence[ACL]
OPEN: Final = tuple(OPEN_ACL_UNSAFE)
READ_ONLY: Final = (ACL(Permissions.READ, ANYONE_ID_UNSAFE),)


def world(acl: Rights) -> int:
    """What anyone may do."""
    perms = 0
    for entry in acl:
        if entry.id == ANYONE_ID_UNSAFE:
            perms |= entry.perms
    return int(perms)


def granted(acl: Rights, ids: Collection[str]) -> int:
    """What the subjects among ``ids`` may do, and anyone."""
    perms = world(acl)
    for entry in acl:
        if entry.id.scheme == "x509" and str(entry.id.id) in ids:
            perms |= entry.perms
    return int(perms)


def harmful(acl: Rights) -> bool:
    """Whether anyone may write here, empty it, or change the rights."""
    return bool(world(acl) & _HARM)


def harmful_others(acl: Rights, parent: Rights) -> list[Id]:
    """Who, besides the operators that ``parent`` names, may write this node or change its rights.
    Whoever makes a node chooses its rights, and so may have kept that for itself."""
    known = set(operators(parent))
    return list(dict.fromkeys(e.id for e in acl if e.perms & _HARM and e.id not in known))


def operators(acl: Rights) -> list[Id]:
    return [e.id for e in acl if e.perms & ALL == ALL and e.id != ANYONE_ID_UNSAFE]


def owners(acl: Rights) -> list[str]:
    """Subjects that a node belongs to, operators apart."""
    return [str(e.id.id) for e in acl if e.id.scheme == "x509" and e.perms & ALL != ALL]


def belongs(acl: Rights, subject: str, perms: int, known: Collection[Id]) -> bool:
    """Whether a node is this subject's alone, who may do just ``perms``, and nobody else any harm.
    Operators (``known``) may have come since it was made. Whoever else is named there, in
    whatever way, is none of them: who made it before its host came may have kept something."""
    return (
        {entry.id for entry in acl} <= {*known, ANYONE_ID_UNSAFE, Id("x509", subject)}
        and owners(acl) == [subject]
        and granted(acl, {subject}) == perms
        and world(acl) == READ
    )


def owner_of_record(acl: Rights, known: Collection[Id]) -> str | None:
    """Whose a host's record is, and nobody else's; None: nobody's, or not his alone."""
    subject = next(iter(owners(acl)), None)
    sole = subject is not None and belongs(acl, subject, READ | WRITE, known)
    return subject if sole else None


def of_document(acl: Rights, known: Collection[Id], *, others: int) -> bool:
    """Whether a document or a report is as its host makes it: operators (some of ``known``) may do
    all, ``others`` says what everybody may, and one subject more is named at most. That one is the
    host, or ZooKeeper refuses its next write."""
    named = {e.id for e in acl} - {*known, ANYONE_ID_UNSAFE}
    alone = len(named) <= 1 and all(one.scheme == "x509" for one in named)
    return alone and world(acl) == others and bool({*operators(acl)} & {*known})


def of_child(
    parent: Rights, *, also: int = 0, owner: Id | None = _CREATOR, others: int = READ
) -> list[ACL]:
    """For a new node below ``parent``. ``also``: what its owner may do, besides read it;
    ``others``: what everybody else may.

    Without a parent (the write will fail, and be tried again) it does not matter.
    """
    if not parent or harmful(parent):
        return list(OPEN)
    owned = [ACL(READ | also, owner)] if owner is not None else []
    return [*_operators(operators(parent)), *owned, *_anyone(others)]


def of_owner(parent: Rights, sample: Rights | None) -> list[ACL]:
    """For a node that must have the owner of ``sample`` (nobody, without one)."""
    found = owners(sample) if sample is not None else []
    return of_child(parent, owner=Id("x509", found[0]) if found else None)


def closed(subjects: Iterable[str], *, members: int) -> list[ACL]:
    """For the tree itself: ``subjects`` are the operators', ``members`` what anyone may do."""
    ids = [Id("x509", subject) for subject in dict.fromkeys(subjects)]
    return [*_operators(ids), ACL(members, ANYONE_ID_UNSAFE)]


def without_harm(acl: Rights, subjects: Iterable[str], *, others: int = READ) -> list[ACL]:
    """What ``acl`` becomes in a closed tree: owners stay, operators may do all, and everybody else
    what ``others`` says."""
    kept = [e for e in acl if e.id.scheme == "x509" and e.perms & ALL != ALL]
    ids = [Id("x509", subject) for subject in dict.fromkeys(subjects)]
    return [*_operators(ids), *kept, *_anyone(others)]


def same(one: Rights, other: Rights) -> bool:
    return {(e.perms, e.id) for e in one} == {(e.perms, e.id) for e in other}


def in_words(acl: Rights) -> str:
    letters = ((READ, "r"), (WRITE, "w"), (CREATE, "c"), (Permissions.DELETE, "d"))
    return ", ".join(
        f"{e.id.id if e.id.scheme == 'x509' else e.id.id or e.id.scheme}:"
        + "".join(word for bit, word in (*letters, (Permissions.ADMIN, "a")) if e.perms & bit)
        for e in acl
    )


def _anyone(perms: int) -> list[ACL]:
    return [ACL(perms, ANYONE_ID_UNSAFE)] if perms else []


def _operators(ids: Iterable[Id]) -> list[ACL]:
    return [ACL(ALL, one) for one in ids]


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """Request 107 (ZooKeeper 3.7): (scheme, id) pairs by which the server knows this session."""

    type: ClassVar[int] = 107

    def serialize(self) -> bytes:
        return b""

    @classmethod
    def deserialize(cls, reply: bytes, offset: int) -> list[tuple[str, str]]:
        count = int.from_bytes(reply[offset : offset + 4], "big", signed=True)
        offset += 4
        found = []
        for _ in range(count):
            scheme, offset = read_string(reply, offset)
            user, offset = read_string(reply, offset)
            found.append((scheme or "", user or ""))
        return found
