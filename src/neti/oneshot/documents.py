"""What members say of themselves, as far as it is theirs.

Must never do: believe what somebody else made.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from neti.fleet.selecting import OLD
from neti.registry import Detail, OperatorRegistry, detail
from neti.registry.detail import Document


@dataclass(frozen=True, slots=True)
class Told:
    """``by``: what each says; ``not_own``: of whom somebody else says something: a document that
    does not go with the session of the host's entry. Anybody may make one of a host that is away,
    and after that its own agent cannot. ``in_part``: this client is no operator, so of hosts that
    have a report it knows only what every member may; ``reported``: who has one."""

    by: Mapping[str, Document]
    not_own: frozenset[str]
    in_part: bool
    reported: frozenset[str] = frozenset()


def told_by(
    registry: OperatorRegistry,
    entries: Mapping[str, str | None],
    wall: Callable[[], float] = time.time,
) -> Told:
    """``entries``: those of the members that are asked about, by id. Nothing else is read, so a
    look at few of them costs little. Who has no report is of an earlier version, or in a tree that
    one laid out: its document is all of it. So it is, and the report old, where a host went back to
    such a version."""
    reports = registry.reports(entries)
    own, others = _own(registry, entries, reports or ())
    reported = frozenset(own)
    fresh = {i for i, said in own.items() if (said.written or 0) > wall() - OLD}
    rest = entries.keys() - fresh
    more, forged = _own(registry, entries, registry.details(rest) if rest else ())
    later = {i: said for i, said in more.items() if i not in own or _later(said, own[i])}
    return Told({**own, **later}, others | forged, in_part=reports is None, reported=reported)


def _later(one: Document, other: Document) -> bool:
    return (one.written or 0) > (other.written or 0)


def _own(
    registry: OperatorRegistry, entries: Mapping[str, str | None], told: Iterable[Detail]
) -> tuple[dict[str, Document], frozenset[str]]:
    names = (entries[one.host_id] for one in told)
    sessions = registry.sessions(name for name in names if name is not None)
    own, others = dict[str, Document](), set[str]()
    for one in told:
        session = sessions.get(entries[one.host_id] or "")
        if session is None or session == one.session:  # None: it is gone meanwhile
            own[one.host_id] = detail.decode(one.document)
        else:
            others.add(one.host_id)
    return own, frozenset(others)
