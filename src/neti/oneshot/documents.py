"""What members say of themselves, as far as it is theirs.

Must never do: believe what somebody else made, or what an agent said that runs no more.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from neti.registry import Detail, OperatorRegistry, detail
from neti.registry.detail import Document

Entries = Mapping[str, str | None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Told:
    """``by``: what each says; ``not_own``: of whom somebody else says something: a document that
    does not go with the session of the host's entry. Anybody may make one of a host that is away,
    and after that its own agent cannot. ``in_part``: this client is no operator, so of hosts that
    have a report it knows only what every member may; ``reported``: who has one that counts."""

    by: Mapping[str, Document]
    not_own: frozenset[str]
    in_part: bool
    reported: frozenset[str] = frozenset()


def told_by(registry: OperatorRegistry, entries: Entries) -> Told:
    """``entries``: those of the members that are asked about, by id. Nothing else is read, so a
    look at few of them costs little. Who has no report is of an earlier version, or in a tree that
    one laid out: its document is all of it.

    So it is where a host went back to such a version in the session of the later one. That one's
    report stays, and nobody writes it any more: a report counts where it was written with the
    document beside it. Both are read one after the other, so whose do not agree are read again: a
    host may have written in between."""
    told = _read(registry, entries)
    if told.apart:
        again = _read(registry, {host_id: entries[host_id] for host_id in told.apart})
        told = told.updated(again)
    left = {host_id: told.documents[host_id] for host_id in told.apart}
    alone = {i: raw for i, raw in told.documents.items() if i not in told.reports} | left
    return Told(
        {**told.reports, **{i: detail.decode(raw) for i, raw in alone.items()}},
        told.not_own,
        in_part=told.in_part,
        reported=frozenset(told.reports.keys() - told.apart),
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """What is the hosts' own; documents as they were read, because most are not needed beside a
    report. ``apart``: of whom report and document were not written together."""

    documents: dict[str, bytes]
    reports: dict[str, Document]
    not_own: frozenset[str]
    in_part: bool
    apart: frozenset[str]

    def updated(self, again: "_Read") -> "_Read":
        """By a second look at those that were ``apart``."""

        def without(told: Mapping[str, T]) -> dict[str, T]:
            return {i: said for i, said in told.items() if i not in self.apart}

        return _Read(
            {**without(self.documents), **again.documents},
            {**without(self.reports), **again.reports},
            (self.not_own - self.apart) | again.not_own,
            in_part=again.in_part,
            apart=again.apart,
        )


def _read(registry: OperatorRegistry, entries: Entries) -> _Read:
    documents = registry.details(entries)
    reports = registry.reports(entries)
    there = {one.host_id for one in (*documents, *(reports or ()))}
    sessions = _sessions(registry, entries, there)
    own, forged = _own(documents, sessions)
    raw, also_forged = _own(reports or (), sessions)
    said = {host_id: detail.decode(report) for host_id, report in raw.items()}
    apart = {
        host_id
        for host_id, report in said.items()
        if host_id in own and not detail.of_one_writing(own[host_id], report)
    }
    return _Read(own, said, forged | also_forged, in_part=reports is None, apart=frozenset(apart))


def _sessions(
    registry: OperatorRegistry, entries: Entries, host_ids: Collection[str]
) -> dict[str, int]:
    """By id the session of each one's entry, as far as that stands."""
    names = {host_id: name for host_id in host_ids if (name := entries[host_id]) is not None}
    found = registry.sessions(names.values())
    return {host_id: found[name] for host_id, name in names.items() if name in found}


def _own(
    told: Iterable[Detail], sessions: Mapping[str, int]
) -> tuple[dict[str, bytes], frozenset[str]]:
    """And whose somebody else made. Of an entry that is gone meanwhile nobody knows."""
    own, others = dict[str, bytes](), set[str]()
    for one in told:
        if sessions.get(one.host_id, one.session) == one.session:
            own[one.host_id] = one.document
        else:
            others.add(one.host_id)
    return own, frozenset(others)
