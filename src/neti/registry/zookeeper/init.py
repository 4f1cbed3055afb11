"""``neti registry init``: what is missing in the tree. Works with and without TLS.

Must never do: loosen a right, delete anything, or change what ``plan`` did not name.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from kazoo.exceptions import NoAuthError, NoNodeError, UnimplementedError
from kazoo.protocol.serialization import Create, GetACL, SetACL

from neti.errors import RegistryError
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.layout import Layout

_READ_AND_CREATE: Final = rights.READ | rights.CREATE


@dataclass(frozen=True, slots=True)
class Step:
    """One change: ``path`` made (``data`` is not None) or its rights changed."""

    path: str
    data: bytes | None
    acl: tuple[Any, ...]
    before: tuple[Any, ...] = ()

    def __str__(self) -> str:
        after = rights.in_words(self.acl)
        if self.data is not None:
            return f"make   {self.path}  {after}"
        return f"rights {self.path}  {rights.in_words(self.before)} -> {after}"


@dataclass(frozen=True, slots=True)
class InitPlan:
    """``subjects``: the operators; empty: no TLS, so everything is open to everyone."""

    subjects: tuple[str, ...]
    steps: tuple[Step, ...]
    open_to_members: tuple[str, ...] = ()


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


def plan(attempt: Attempt, layout: Layout, subjects: Iterable[str]) -> InitPlan:
    """What has to change, so that these subjects are operators (none: open to everyone)."""
    operators = tuple(dict.fromkeys(subjects))
    present = _rights(attempt, [*layout.parents(), layout.fleet, *layout.settings()])
    if operators:
        # Those that there are stay: one operator does not put another out by repeating this.
        named = rights.operators(present.get(layout.ip_map, ()))
        kept = [str(one.id) for one in named if one.scheme == "x509"]
        operators = tuple(dict.fromkeys((*operators, *kept)))
    tree = _wanted(layout, operators, admission=_admission(present.get(layout.hosts)))
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
            steps += _closing(attempt, parent, operators)
    return InitPlan(operators, tuple(steps), layout.open_to_members())


def carry_out(attempt: Attempt, planned: InitPlan) -> list[str]:
    """All that is to be made in one step, so that no agent sees half a tree; then the rights.
    Returns the nodes whose rights this client may not change: one of them does not keep the others
    open."""
    made = [Create(s.path, s.data, list(s.acl), 0) for s in planned.steps if s.data is not None]
    if made and (failure := attempt.multi(made)) is not None:
        raise failure[1]
    changed = [s for s in planned.steps if s.data is None]
    answers = attempt.each([SetACL(s.path, list(s.acl), -1) for s in changed])
    members_own = tuple(f"{parent}/" for parent in planned.open_to_members)
    refused = []
    for step, answer in zip(changed, answers, strict=True):
        if isinstance(answer, NoAuthError) and step.path.startswith(members_own):
            refused.append(step.path)
        elif isinstance(answer, Exception) and not isinstance(answer, NoNodeError):
            raise answer
    return refused


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


def _closing(attempt: Attempt, parent: str, operators: tuple[str, ...]) -> list[Step]:
    """Nodes of the time when everything was open."""
    paths = [f"{parent}/{name}" for name in attempt.names(parent)]
    return [
        Step(path, None, tuple(rights.without_harm(acl, operators)), acl)
        for path, acl in _rights(attempt, paths, strict=False).items()
        if rights.harmful(acl)
    ]


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
