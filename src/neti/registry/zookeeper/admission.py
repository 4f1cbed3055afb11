"""Who may begin a host: the right to create below ``hosts``, and the records that operators make.

Only rights change, not data, so a registered host stays vouched for, and a lease keeps its age.

Must never do: take an id away from the certificate that it belongs to, unless that was asked for.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kazoo.exceptions import NoAuthError, NodeExistsError, NoNodeError
from kazoo.protocol.serialization import Create, SetACL, SetData
from kazoo.security import Id

from neti.errors import NoTree, RegistryError
from neti.registry.admitted import Asked, by_pattern
from neti.registry.record import HostRecord, encode
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.layout import Layout, removal
from neti.registry.zookeeper.leases import ANY_VERSION, overlay_of
from neti.registry.zookeeper.records import UNFINISHED
from neti.text import command, printable
from neti.words import some

INTERRUPTED: Final = (
    "'neti registry init' was interrupted here: until it is finished, only hosts that have a "
    "record can register\n→ neti registry init"
)
_PART: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit:
    """``make``: the record is not there yet; ``give``: nodes of the id that this subject gets, the
    record last; ``former``: whose they were. Neither: it is all as it is to be."""

    id: str
    subject: str
    make: bool
    give: tuple[str, ...]
    former: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        return not self.make and not self.give


@dataclass(frozen=True, slots=True)
class Refused:
    id: str
    why: str


# --- who may begin a host ---


def has_rights(attempt: Attempt, layout: Layout) -> bool:
    """Whether a record can be written by its own host only: the tree has rights, and records."""
    (of_hosts,) = attempt.acls([layout.hosts])
    return bool(of_hosts) and not rights.harmful(of_hosts)


def needs_admission(attempt: Attempt, layout: Layout) -> bool:
    """Whether only operators may begin a host, because one of them said so: an ``init`` that was
    interrupted keeps members out as well. Raises RegistryError in a tree without rights."""
    closed = not rights.world(_of_hosts(attempt, layout)) & rights.CREATE
    return closed and not unfinished(attempt, layout)


def unfinished(attempt: Attempt, layout: Layout) -> bool:
    """Whether 'neti registry init' was interrupted before all hosts with a lease had records."""
    return attempt.read([layout.hosts], unread=set()) == [UNFINISHED]


def change(attempt: Attempt, layout: Layout, *, on: bool) -> None:
    """Raises RegistryError where ``off`` would let members take ids whose records are to come."""
    held = _of_hosts(attempt, layout)
    begun = unfinished(attempt, layout)
    if begun and not on:
        raise RegistryError(INTERRUPTED)
    subjects = [str(one.id) for one in rights.operators(held)]
    members = rights.READ if on else rights.READ | rights.CREATE
    wanted = rights.closed(subjects, members=members)
    if not rights.same(held, wanted):
        attempt.one(SetACL(layout.hosts, wanted, ANY_VERSION))
    if begun:
        attempt.one(SetData(layout.hosts, b"", ANY_VERSION))


def _of_hosts(attempt: Attempt, layout: Layout) -> list[Any]:
    (held,) = attempt.acls([layout.hosts])
    if not held and not attempt.exists(layout.ip_map):
        raise NoTree(layout.no_tree)
    if not held or rights.harmful(held):
        raise RegistryError(
            "this tree has no access rights for hosts' records, so there is nobody to admit: "
            "anybody can write them\n"
            "→ configure registry_tls, on all hosts and here\n"
            "→ neti registry init, with an operator's certificate"
        )
    return held


# --- records that operators make ---


def plan(
    attempt: Attempt,
    layout: Layout,
    asked: Sequence[Asked],
    *,
    pattern: str | None = None,
    replace: bool = False,
) -> tuple[list[Admit], list[Refused]]:
    """``pattern``: makes the subject of an id that is given none; ``replace``: also what belongs to
    another subject."""
    known = rights.operators(_of_hosts(attempt, layout))
    steps: list[Admit] = []
    refused: list[Refused] = []
    for part in _parts(asked):
        attempt.go_on()
        for one, held in zip(part, _held(attempt, layout, part), strict=True):
            done = _judge(layout, one, held, pattern, known, replace=replace)
            if isinstance(done, Admit):
                steps.append(done)
            else:
                refused.append(done)
    return steps, refused


def owned_already(attempt: Attempt, layout: Layout, steps: Sequence[Admit]) -> dict[str, list[str]]:
    """By subject, the other ids whose records it owns: two hosts with one certificate. Reads the
    rights of all records."""
    subjects, ids = {one.subject for one in steps}, {one.id for one in steps}
    found: dict[str, list[str]] = {}
    for part in _parts(sorted(set(attempt.names(layout.hosts)) - ids)):
        attempt.go_on()
        acls = attempt.acls([layout.host(host_id) for host_id in part], unread=set())
        for host_id, acl in zip(part, acls, strict=True):
            for subject in subjects.intersection(rights.owners(acl)):
                found.setdefault(subject, []).append(host_id)
    return found


def carry_out(attempt: Attempt, layout: Layout, steps: Sequence[Admit]) -> list[Refused]:
    """May be repeated."""
    of_hosts = _of_hosts(attempt, layout)
    (of_leases,) = attempt.acls([layout.id_to_ip])
    refused: list[Refused] = []
    for part in _parts([one for one in steps if not one.nothing]):
        attempt.go_on()
        requests: list[tuple[str, Any]] = []
        for one in part:
            record = layout.host(one.id)
            for path in one.give:
                acl = _acl(of_hosts if path == record else of_leases, one.subject, path == record)
                requests.append((one.id, SetACL(path, acl, ANY_VERSION)))
            if one.make:
                acl = _acl(of_hosts, one.subject, True)
                requests.append((one.id, Create(record, encode(HostRecord()), acl, 0)))
        answers = attempt.each([request for _, request in requests])
        failed: dict[str, Refused] = {}
        for (host_id, request), answer in zip(requests, answers, strict=True):
            if isinstance(answer, Exception) and host_id not in failed:
                if isinstance(request, Create) and isinstance(answer, NoAuthError):
                    raise answer  # no operator, then: who is one is said for all of them at once
                failed[host_id] = Refused(host_id, _why(request.path, answer))
        refused += failed.values()
    return refused


@dataclass(frozen=True, slots=True)
class _Held:
    """Rights by path: of the record (None: there is none), and of the lease's nodes."""

    record: list[Any] | None
    lease: dict[str, list[Any]]


def _held(attempt: Attempt, layout: Layout, asked: Sequence[Asked]) -> Iterator[_Held]:
    closed: set[str] = set()
    ids = [one.id for one in asked]
    records, halves = [layout.host(i) for i in ids], [layout.by_id(i) for i in ids]
    stats = attempt.stats(records)
    acls = attempt.acls([*records, *halves], unread=closed)
    overlays = [overlay_of(data or b"") for data in attempt.read(halves, unread=closed)]
    others = [layout.by_overlay(overlay) for overlay in overlays if overlay is not None]
    holders = dict(zip(others, attempt.read(others, unread=closed), strict=True))
    acls_of = dict(zip(others, attempt.acls(others, unread=closed), strict=True))
    for number, host_id in enumerate(ids):
        overlay = overlays[number]
        other = layout.by_overlay(overlay) if overlay is not None else None
        lease = {}
        if other is not None and holders[other] == host_id.encode():
            lease = {halves[number]: acls[len(ids) + number], other: acls_of[other]}
        yield _Held(acls[number] if stats[number] is not None else None, lease)


def _judge(
    layout: Layout,
    asked: Asked,
    held: _Held,
    pattern: str | None,
    known: Collection[Id],
    *,
    replace: bool,
) -> Admit | Refused:
    of_lease = {owner for acl in held.lease.values() for owner in rights.owners(acl)}
    subject = asked.subject
    by_rule = by_pattern(pattern, asked.id) if pattern is not None else None
    if subject is None and of_lease:
        # Anybody may take a lease for an id that nobody has yet, and so foretell its certificate.
        if of_lease != {by_rule or min(of_lease)}:
            other = f", and --subject says {printable(by_rule)}" if by_rule is not None else ""
            return Refused(
                asked.id,
                f"its lease belongs to {_named(of_lease)}{other}: name the subject that is right\n"
                f"→ {command('neti registry admit', asked.id, by_rule or 'SUBJECT')}",
            )
        (subject,) = of_lease
    elif subject is None:
        subject = by_rule
    record = layout.host(asked.id)
    if subject is None and (owners := rights.owners(held.record or [])):
        return Refused(
            asked.id,
            f"no lease of it tells its certificate. Its record belongs to {_named(set(owners))}: "
            f"name the subject that is right\n"
            f"→ {command('neti registry admit', asked.id, owners[0])}",
        )
    if subject is None:
        return Refused(
            asked.id,
            "it has no lease that would tell its certificate: name the subject, or give "
            "--subject 'CN={id},OU=hosts'",
        )
    may, writes = rights.READ, rights.READ | rights.WRITE
    give = [path for path, acl in held.lease.items() if not _belongs(acl, subject, may, known)]
    if held.record is not None and not _belongs(held.record, subject, writes, known):
        give.append(record)
    former = (of_lease | set(rights.owners(held.record or []))) - {subject}
    if former and not replace:
        return Refused(
            asked.id,
            f"it belongs to {_named(former)}\n"
            f"→ {command('neti registry admit --replace', asked.id, subject)}",
        )
    return Admit(
        id=asked.id,
        subject=subject,
        make=held.record is None,
        give=tuple(give),
        former=tuple(sorted(former)),
    )


def _belongs(acl: rights.Rights, subject: str, perms: int, known: Collection[Id]) -> bool:
    """Operators may have come since it was made. Whoever else may do all to it is none of them
    (``known``), and made it before its host came."""
    return (
        set(rights.operators(acl)) <= set(known)
        and rights.owners(acl) == [subject]
        and rights.granted(acl, {subject}) == perms
        and rights.world(acl) == rights.READ
    )


def _acl(parent: rights.Rights, subject: str, writes: bool) -> list[Any]:
    also = rights.WRITE if writes else 0
    return rights.of_child(parent, also=also, owner=Id("x509", subject))


def _why(path: str, error: Exception) -> str:
    match error:
        case NoAuthError():
            return (
                f"whoever made {printable(path)} lets no operator change its rights\n"
                f"→ {removal(path)}"
            )
        case NodeExistsError() | NoNodeError():
            return "it has changed meanwhile: type this again"
    return f"ZooKeeper refused it ({type(error).__name__})"


def _named(subjects: set[str]) -> str:
    return some([printable(each) for each in subjects])


def _parts(asked: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(asked), _PART):
        yield asked[first : first + _PART]
