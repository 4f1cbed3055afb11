"""Who may begin a host: the right to create below ``hosts``, and the records that operators make.

Of a host that has been here only rights change, not data, so it stays vouched for, and its lease
keeps its age.

Must never do: take an id away from the certificate that it belongs to, unless that was asked for.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any, Final

from kazoo.exceptions import BadVersionError, NoAuthError, NodeExistsError, NoNodeError
from kazoo.protocol.serialization import SetACL, SetData
from kazoo.security import Id

from neti.errors import NetiError, NoTree, RegistryError
from neti.registry.admitted import Asked, by_pattern
from neti.registry.zookeeper import admitted_leases, rights
from neti.registry.zookeeper.admitted_leases import Held
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.layout import Layout, removal
from neti.registry.zookeeper.leases import ANY_VERSION
from neti.registry.zookeeper.records import UNFINISHED
from neti.text import command, printable
from neti.words import some

INTERRUPTED: Final = (
    "'neti registry init' was interrupted here: until it is finished, only hosts that have a "
    "record can register\n→ neti registry init"
)
_PART: Final = 500
_CHANGED: Final = "it has changed meanwhile: type this again"
_MEANWHILE: Final = (NodeExistsError, NoNodeError, BadVersionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit:
    """``version``: of the record, None: it is to be made; ``lease``: one is made, in the same step,
    which ``clears`` what stands in its place; ``give``: nodes of the id that this subject gets, the
    record last; ``former``: whose they were. None of them: it is all as it is to be."""

    id: str
    subject: str
    version: int | None
    lease: bool
    clears: tuple[tuple[str, int], ...] = ()
    give: tuple[str, ...]
    former: tuple[str, ...] = ()

    @property
    def make(self) -> bool:
        return self.version is None

    @property
    def nothing(self) -> bool:
        return not (self.make or self.lease or self.give)


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
    subnet: IPv4Network,
    pattern: str | None = None,
    replace: bool = False,
) -> tuple[list[Admit], list[Refused]]:
    """``subnet``: what leases are taken from; ``pattern``: makes the subject of an id that is given
    none; ``replace``: also what belongs to another subject."""
    known = rights.operators(_of_hosts(attempt, layout))
    steps: list[Admit] = []
    refused: list[Refused] = []
    for part in _parts(asked):
        attempt.go_on()
        found = admitted_leases.look(attempt, layout, [one.id for one in part], subnet, known)
        for one, held in zip(part, found, strict=True):
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


def carry_out(
    attempt: Attempt, layout: Layout, steps: Sequence[Admit], subnet: IPv4Network
) -> list[Refused]:
    """May be repeated. What has changed meanwhile, by a host that came or by an answer that was
    lost, is looked at once more."""
    refused, changed = _carry_out(attempt, layout, steps, subnet)
    if changed:
        asked = [Asked(one.id, one.subject) for one in steps if one.id in changed]
        again, not_any_more = plan(attempt, layout, asked, subnet=subnet)
        failed, changed = _carry_out(attempt, layout, again, subnet)
        refused += [*not_any_more, *failed]
    return refused + [Refused(host_id, _CHANGED) for host_id in sorted(changed)]


def _carry_out(
    attempt: Attempt, layout: Layout, steps: Sequence[Admit], subnet: IPv4Network
) -> tuple[list[Refused], set[str]]:
    """And the ids of which something has changed since they were looked at."""
    refused: dict[str, Refused] = {}
    changed: set[str] = set()
    for part in _parts([one for one in steps if not one.nothing]):
        attempt.go_on()
        for host_id, path, error in _give(attempt, layout, part):
            refused[host_id] = Refused(host_id, _why(path, error))
        begin = [one for one in part if one.id not in refused and (one.make or one.lease)]
        for host_id, path, error in admitted_leases.make(attempt, layout, begin, subnet):
            if isinstance(error, _MEANWHILE):
                changed.add(host_id)
            elif isinstance(error, NoAuthError):
                raise error  # no operator, then: who is one is said for all of them at once
            else:
                refused[host_id] = Refused(host_id, _why(path, error))
    return list(refused.values()), changed


def _give(
    attempt: Attempt, layout: Layout, part: Sequence[Admit]
) -> Iterator[tuple[str, str, Exception]]:
    """What is there to its new owner. Yields each id of which a node was refused."""
    of_hosts, of_leases = attempt.acls([layout.hosts, layout.id_to_ip])
    requests: list[tuple[str, SetACL]] = []
    for one in part:
        record = layout.host(one.id)
        for path in one.give:
            parent, also = (of_hosts, rights.WRITE) if path == record else (of_leases, 0)
            acl = rights.of_child(parent, also=also, owner=Id("x509", one.subject))
            requests.append((one.id, SetACL(path, acl, ANY_VERSION)))
    answers = attempt.each([request for _, request in requests])
    failed: set[str] = set()
    for (host_id, request), answer in zip(requests, answers, strict=True):
        if isinstance(answer, Exception) and host_id not in failed:
            failed.add(host_id)
            yield host_id, request.path, answer


def _judge(
    layout: Layout,
    asked: Asked,
    held: Held,
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
    if held.nailed:
        return Refused(
            asked.id,
            f"{printable(held.nailed[0])} stands in the way of its lease, and has nodes below it\n"
            f"→ {removal(*held.nailed)}",
        )
    may, writes = rights.READ, rights.READ | rights.WRITE
    give = [
        path for path, acl in held.lease.items() if not rights.belongs(acl, subject, may, known)
    ]
    if held.record is not None and not rights.belongs(held.record, subject, writes, known):
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
        version=held.version,
        lease=held.needs_lease,
        clears=held.in_the_way,
        give=tuple(give),
        former=tuple(sorted(former)),
    )


def _why(path: str, error: Exception) -> str:
    match error:
        case NoAuthError():
            return (
                f"whoever made {printable(path)} lets no operator change its rights\n"
                f"→ {removal(path)}"
            )
        case NetiError():
            return str(error)
        case NoNodeError():
            return _CHANGED
    return f"ZooKeeper refused it ({type(error).__name__})"


def _named(subjects: set[str]) -> str:
    return some([printable(each) for each in subjects])


def _parts(asked: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(asked), _PART):
        yield asked[first : first + _PART]
