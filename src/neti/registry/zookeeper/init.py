"""``neti registry init``: what is missing in the tree. Works with and without TLS.

In a tree that members already have leases in, each gets its host's record before anybody may begin
a host: the first to come would have had its id.

Must never do: loosen a right, change what ``plan`` did not name, or delete anything but a
record, a key, a document or a report that belongs to nobody, so that its own host could not write
it any more, or of which nobody can say whose it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from kazoo.exceptions import NoAuthError, NoNodeError, UnimplementedError
from kazoo.protocol.serialization import Create, Delete, GetACL, SetACL, SetData
from kazoo.security import Id

from neti.errors import RegistryError
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.layout import OUTSIDE, Layout
from neti.registry.zookeeper.records import UNFINISHED, Begun, make, missing

_READ_AND_CREATE: Final = rights.READ | rights.CREATE


@dataclass(frozen=True, slots=True)
class Step:
    """One change: ``path`` made (``data`` is not None), or its rights changed; or without rights:
    deleted."""

    path: str
    data: bytes | None
    acl: tuple[Any, ...]
    before: tuple[Any, ...] = ()

    @property
    def deletes(self) -> bool:
        return not self.acl

    def __str__(self) -> str:
        if self.deletes:
            return f"delete {self.path}  it belongs to nobody alone, so its host makes it anew"
        after = rights.in_words(self.acl)
        if self.data is not None:
            return f"make   {self.path}  {after}"
        return f"rights {self.path}  {rights.in_words(self.before)} -> {after}"


@dataclass(frozen=True, slots=True)
class InitPlan:
    """``subjects``: the operators; empty: no TLS, so everything is open to everyone. ``records``:
    to be made for leases; ``without_owner``: ids with a lease of which nobody can say whose they
    are; ``unfinished``: an earlier run was killed before all records stood; ``lays_out``: there is
    no tree."""

    subjects: tuple[str, ...]
    steps: tuple[Step, ...]
    open_to_members: tuple[str, ...] = ()
    records: tuple[Begun, ...] = ()
    without_owner: tuple[str, ...] = ()
    unfinished: bool = False
    lays_out: bool = False

    @property
    def nothing(self) -> bool:
        return not (self.steps or self.records or self.unfinished)


def subjects_of(attempt: Attempt, own: str | None) -> tuple[str, ...]:
    """Certificate subjects by which the server knows this session. ``own``: what our certificate
    says, for a server before 3.7 that cannot be asked."""
    (answer,) = attempt.each([rights.WhoAmI()])
    if isinstance(answer, UnimplementedError):
        return (own,) if own is not None else ()
    if isinstance(answer, Exception):
        raise answer
    found = tuple(user for scheme, user in answer if scheme == "x509")
    if own is not None and not found:
        raise RegistryError(
            "this ZooKeeper speaks TLS but knows no subject of our certificate: set "
            "authProvider.x509=org.apache.zookeeper.server.auth.X509AuthenticationProvider "
            "and ssl.clientAuth=need in its zoo.cfg"
        )
    return found


def plan(
    attempt: Attempt, layout: Layout, subjects: Iterable[str], *, close_root: bool = False
) -> InitPlan:
    """What has to change, so that these subjects are operators (none: open to everyone).
    ``close_root``: so that members make nothing beside the tree, and set no quotas."""
    operators = tuple(dict.fromkeys(subjects))
    present = _rights(attempt, [*layout.parents(), layout.fleet, *layout.settings()])
    if operators:
        # Those that there are stay: one operator does not put another out by repeating this.
        named = rights.operators(present.get(layout.ip_map, ()))
        kept = [str(one.id) for one in named if one.scheme == "x509"]
        operators = tuple(dict.fromkeys((*operators, *kept)))
    of_hosts = present.get(layout.hosts)
    unfinished = _marked(attempt, layout)
    admission = _admission(of_hosts) and not unfinished
    tree = _wanted(layout, operators, admission=admission)
    steps = [
        Step(path, data, acl)
        for path, (data, acl) in tree.items()
        if path not in present and data is not None
    ]
    if not operators:
        return InitPlan((), tuple(steps))
    above = set(layout.parents()) - {layout.root, *layout.open_to_members()}
    for path, (_, acl) in tree.items():
        if path in present and path not in above and not rights.same(present[path], acl):
            steps.append(Step(path, None, acl, present[path]))
    for parent in layout.open_to_members():
        if parent in present:
            # What a host writes again and again. Closed to its host, a document would keep it from
            # registering for as long as the session lasts.
            own_words = parent not in (layout.ip_to_id, layout.id_to_ip, layout.ip_map)
            others = 0 if parent == layout.reports else rights.READ
            below = _below(attempt, parent)
            steps += _closing(below, operators, deletes=own_words, others=others)
            if parent in (layout.agents, layout.reports) and not rights.harmful(present[parent]):
                steps += _renewing(below, operators, others=others)
    if close_root:
        outside = _rights(attempt, list(OUTSIDE), strict=False)
        closed = _acl(operators, rights.READ)
        steps += [
            Step(path, None, closed, acl)
            for path, acl in outside.items()
            if not rights.same(acl, closed)
        ]
    # With admission who has no record is not admitted, whatever lease it has.
    gone = {step.path for step in steps if step.deletes}
    begun, without = ((), ()) if admission else missing(attempt, layout, gone)
    return InitPlan(
        operators,
        tuple(steps),
        layout.open_to_members(),
        begun,
        without,
        unfinished=unfinished,
        lays_out=layout.ip_map not in present,
    )


def carry_out(attempt: Attempt, layout: Layout, planned: InitPlan) -> list[str]:
    """All that is to be made in one step, so that no agent sees half a tree; then the records of
    leases, while nobody may make any; then the rights. Returns the nodes whose rights this client
    may not change: one of them does not keep the others open."""
    closes = bool(planned.records) or planned.unfinished
    made = [
        _first(s, planned.subjects) if closes and s.path == layout.hosts else s
        for s in planned.steps
        if s.data is not None
    ]
    creates = [Create(s.path, s.data, list(s.acl), 0) for s in made]
    if creates and (failure := attempt.multi(creates)) is not None:
        raise failure[1]
    changed = [s for s in planned.steps if s.data is None]
    if closes:
        _begin(attempt, layout, planned, [s for s in planned.steps if s.path == layout.hosts])
    attempt.go_on()
    answers = attempt.each(
        [Delete(s.path, -1) if s.deletes else SetACL(s.path, list(s.acl), -1) for s in changed]
    )
    members_own = tuple(f"{parent}/" for parent in planned.open_to_members)
    refused: list[str] = []
    for step, answer in zip(changed, answers, strict=True):
        theirs = step.path.startswith(members_own) or step.path in OUTSIDE
        if isinstance(answer, NoAuthError) and theirs:
            refused.append(step.path)
        elif isinstance(answer, Exception) and not isinstance(answer, NoNodeError):
            raise answer
    if closes:
        attempt.one(SetData(layout.hosts, b"", -1))
    return refused


def _first(step: Step, subjects: tuple[str, ...]) -> Step:
    """The parent of the records, as it is made: closed, and saying that it is not finished."""
    return replace(step, data=UNFINISHED, acl=_acl(subjects, rights.READ))


def _begin(attempt: Attempt, layout: Layout, planned: InitPlan, of_hosts: Sequence[Step]) -> None:
    """Records for leases. ``of_hosts``: what is to become of their parent."""
    if any(s.data is None and rights.harmful(s.before) for s in of_hosts):
        attempt.one(SetData(layout.hosts, UNFINISHED, -1))
        attempt.one(SetACL(layout.hosts, list(_acl(planned.subjects, rights.READ)), -1))
    begun = _marked(attempt, layout)
    make(attempt, layout, planned.records, _acl(planned.subjects, rights.READ))
    if begun and not _marked(attempt, layout):
        raise RegistryError(
            "another operator has finished this meanwhile, so no more rights were changed\n"
            "→ neti registry init --dry-run"
        )
    for step in of_hosts:
        if step.data is not None:  # made closed
            attempt.one(SetACL(step.path, list(step.acl), -1))


def _marked(attempt: Attempt, layout: Layout) -> bool:
    return attempt.read([layout.hosts], unread=set()) == [UNFINISHED]


def _admission(of_hosts: tuple[Any, ...] | None) -> bool:
    """Whether operators took from members the right to begin a host: that is not given back."""
    if not of_hosts or rights.harmful(of_hosts):
        return False
    return not rights.world(of_hosts) & rights.CREATE


def _wanted(
    layout: Layout, operators: tuple[str, ...], *, admission: bool
) -> dict[str, tuple[bytes | None, tuple[Any, ...]]]:
    """Every node of the tree with its data (None: not made here) and its rights."""
    members = set(layout.open_to_members())
    wanted: dict[str, tuple[bytes | None, tuple[Any, ...]]] = {}
    for path, data in layout.tree():
        begin = path in members and not (admission and path == layout.hosts)
        may = _READ_AND_CREATE if begin else rights.READ
        wanted[path] = (data, _acl(operators, may))
    for path in layout.settings():
        wanted[path] = (None, _acl(operators, rights.READ))
    return wanted


def _acl(operators: tuple[str, ...], members: int) -> tuple[Any, ...]:
    return tuple(rights.closed(operators, members=members)) if operators else rights.OPEN


def _below(attempt: Attempt, parent: str) -> dict[str, tuple[Any, ...]]:
    return _rights(attempt, [f"{parent}/{name}" for name in attempt.names(parent)], strict=False)


def _closing(
    below: Mapping[str, tuple[Any, ...]], operators: tuple[str, ...], *, deletes: bool, others: int
) -> list[Step]:
    """Nodes of the time when everything was open. ``deletes``: those that belong to nobody go;
    ``others``: what members may do to the rest."""
    return [
        Step(
            path,
            None,
            ()
            if deletes and not rights.owners(acl)
            else tuple(rights.without_harm(acl, operators, others=others)),
            acl,
        )
        for path, acl in below.items()
        if rights.harmful(acl)
    ]


def _renewing(
    below: Mapping[str, tuple[Any, ...]], operators: tuple[str, ...], *, others: int
) -> list[Step]:
    """Documents and reports of a closed tree that others than their hosts and ``operators`` read or
    write, such as a former operator; and reports that not all operators read."""
    known = [Id("x509", subject) for subject in operators]
    steps = []
    for path, acl in below.items():
        mine = rights.of_document(acl, known, others=others)
        unread = not others and not {*known} <= {*rights.operators(acl)}
        if rights.harmful(acl) or (mine and not unread):
            continue
        may = rights.granted(acl, operators) & rights.ADMIN
        alone = may and len(rights.owners(acl)) == 1
        after = tuple(rights.without_harm(acl, operators, others=others)) if alone else ()
        steps.append(Step(path, None, after, acl))
    return steps


def _rights(
    attempt: Attempt, paths: list[str], *, strict: bool = True
) -> dict[str, tuple[Any, ...]]:
    """Of what is there; what may not be read is left out, unless ``strict``: it cannot be changed
    either, and 'neti registry check' names it."""
    found = {}
    for path, answer in zip(paths, attempt.each([GetACL(p) for p in paths]), strict=True):
        if isinstance(answer, NoNodeError) or (isinstance(answer, NoAuthError) and not strict):
            continue
        if isinstance(answer, Exception):
            raise answer
        found[path] = tuple(answer[0])
    return found
