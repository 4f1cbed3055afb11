"""A host's own nodes: its record, its detail document, and what a registration does about them.

Must never do: write a record that has changed since it was read, or take it from another machine.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from kazoo.protocol.serialization import Create, Delete, SetData

from neti.errors import NotAdmitted, OtherOwner, RegistryError
from neti.registry.record import HostRecord, Takeover, decode, encode, may_take
from neti.registry.untrusted import identity_held
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt, session_of
from neti.registry.zookeeper.layout import Layout, removal
from neti.registry.zookeeper.leases import ANY_VERSION, EPHEMERAL
from neti.text import command, printable
from neti.words import some


@dataclass(frozen=True, slots=True)
class OwnNodes:
    """As they were read. ``of_hosts``: the rights of the records' parent, none where there is no
    parent, as in a tree of an earlier version; ``makes_tree``: then it is made."""

    layout: Layout
    host_id: str
    of_hosts: rights.Rights
    of_record: rights.Rights
    of_agent: rights.Rights
    of_report: rights.Rights
    record: HostRecord | None
    record_stat: Any
    word_stat: Any
    detail: bytes
    agent_stat: Any
    report_stat: Any
    makes_tree: bool

    @classmethod
    def read(cls, attempt: Attempt, layout: Layout, host_id: str, *, makes_tree: bool) -> Self:
        own, agent, report = layout.host(host_id), layout.agent(host_id), layout.report(host_id)
        of_hosts, of_record, of_agent, of_report = attempt.acls(
            [layout.hosts, own, agent, report], unread=set()
        )
        (held, described) = attempt.nodes([own, agent], unread=set())
        # Stats need no right to read.
        record_stat, agent_stat, report_stat = attempt.stats([own, agent, report])
        record = decode(held[0]) if held is not None else None
        word_stat = None
        if record is not None and record.word:
            (word_stat,) = attempt.stats([layout.name(record.word)])
        return cls(
            layout,
            host_id,
            of_hosts,
            of_record,
            of_agent,
            of_report,
            record,
            record_stat,
            word_stat,
            described[0] if described is not None else b"",
            agent_stat,
            report_stat,
            makes_tree,
        )

    @property
    def word(self) -> str:
        return self.record.word if self.record is not None else ""

    @property
    def alive(self) -> bool:
        """The word stands, and was made in the step that wrote the record."""
        stat = self.word_stat
        return stat is not None and stat.czxid == self.record_stat.mzxid

    def names(self, present: Any, name: str, session_id: int) -> bool:
        """Whether this entry is ours, and the record vouches for it where there are records."""
        if session_of(present) != session_id or not self.of_hosts:
            return session_of(present) == session_id
        return self.word == name and self.alive

    def registered(self, session_id: int) -> bool:
        """By this session."""
        if self.alive:
            return session_of(self.word_stat) == session_id
        return self.agent_stat is not None and session_of(self.agent_stat) == session_id

    def way(self, session_id: int, machine: str) -> Takeover:
        """Raises IdentityHeld when another one has this id."""
        way = may_take(
            self.record,
            alive=self.alive,
            own_session=self.alive and session_of(self.word_stat) == session_id,
            machine=machine,
        )
        agent = session_of(self.agent_stat) if self.agent_stat is not None else None
        other = agent if agent not in (None, session_id) else None
        # Where there are rights anybody could make that node, and the record is the lock.
        if way == "held" or (way == "free" and other is not None and not self._has_rights):
            holder = session_of(self.word_stat) if way == "held" else other
            raise identity_held(self.host_id, holder or 0, self.detail)
        return way

    @property
    def has_records(self) -> bool:
        return bool(self.of_hosts) or self.makes_tree

    @property
    def _has_rights(self) -> bool:
        return bool(self.of_hosts) and not rights.harmful(self.of_hosts)

    # --- operations ---

    def say(self, word: str) -> list[Any]:
        """The record names this word, and is otherwise as it was."""
        return self.write(replace(self.record or HostRecord(), word=word))

    def write(self, record: HostRecord) -> list[Any]:
        if not self.has_records:
            return []
        path = self.layout.host(self.host_id)
        if self.record_stat is not None:
            self._check_rights()
            return [SetData(path, encode(record), self.record_stat.version)]
        return [Create(path, encode(record), rights.of_child(self.of_hosts, also=rights.WRITE), 0)]

    def _check_rights(self) -> None:
        """Raises RegistryError where somebody else may write the record as well: whoever made it
        before its host came would speak for it afterwards. Where one alone may, it is us, or
        ZooKeeper refuses the write."""
        others = rights.harmful_others(self.of_record, self.of_hosts)
        alone = len(others) <= 1 and all(one.scheme == "x509" for one in others)
        if self._has_rights and not alone:
            raise RegistryError(
                f"the record of {self.host_id} may be written by "
                f"{some([printable(str(one.id), 100) for one in others])}: whoever made it could "
                f"speak for {self.host_id}, so this host does not register with it\n"
                f"→ an operator runs: {removal(self.layout.host(self.host_id))}"
            )

    def describe(self, said: "Said", session_id: int) -> list[Any]:
        """The document, and the report beside it. Raises DocumentClosed."""
        layout, host_id = self.layout, self.host_id
        made = self._put(
            layout.agent(host_id),
            (self.agent_stat, self.of_agent),
            said.document,
            (said.parent, rights.READ),
            session_id,
        )
        if said.report:
            made += self._put(
                layout.report(host_id),
                (self.report_stat, self.of_report),
                said.report,
                (said.parent, 0),
                session_id,
            )
        return made

    def _put(
        self,
        path: str,
        held: tuple[Any, rights.Rights],
        data: bytes,
        wanted: tuple[rights.Rights, int],
        session_id: int,
    ) -> list[Any]:
        """``held``: the node's stat and rights; ``wanted``: its parent's, and what others may do.

        One of another session stays, where it cannot be deleted: it goes with that session, and
        then the next description makes ours. One of ours with rights that we do not give was made
        by somebody who resumed this session: nothing is told to whoever that lets read it."""
        (stat, acl), (parent, others) = held, wanted
        ours = Create(
            path, data, rights.of_child(parent, also=rights.WRITE, others=others), EPHEMERAL
        )
        if stat is None:
            return [ours]
        if session_of(stat) == session_id:
            closed = parent and not rights.harmful(parent)
            if closed and not (self._came_with_word(stat) or self._is_ours(acl, parent, others)):
                raise DocumentClosed(f"{path} has rights that this host does not give")
            return [SetData(path, data, ANY_VERSION)]
        return [] if self._has_rights else [Delete(path, ANY_VERSION), ours]

    def _came_with_word(self, stat: Any) -> bool:
        """The step that made our entry made it, so only operators have changed its rights since.
        Most are, so the fleet's sessions do not end because an operator was taken out."""
        return self.alive and stat.czxid == self.word_stat.czxid

    def _is_ours(self, acl: rights.Rights, parent: rights.Rights, others: int) -> bool:
        """Operators of the time when the record was written pass for some: ending a session for one
        who is none any more would put a host out that may not register with that record."""
        known = {*rights.operators(parent), *rights.operators(self.of_record)}
        return rights.of_document(acl, known, others=others)

    def says_otherwise(self, session_id: int) -> bool:
        """Whether a document or report of another session stands where ours would."""
        stats = (self.agent_stat, self.report_stat)
        return self._has_rights and any(
            stat is not None and session_of(stat) != session_id for stat in stats
        )

    def undescribe(self, session_id: int) -> list[Any]:
        layout, host_id = self.layout, self.host_id
        both = (
            (layout.agent(host_id), self.agent_stat),
            (layout.report(host_id), self.report_stat),
        )
        return [
            Delete(path, ANY_VERSION)
            for path, stat in both
            if stat is not None and session_of(stat) == session_id
        ]

    def former(self, stat: Any, way: Takeover, session_id: int) -> Literal["delete", "stands", ""]:
        """What becomes of a former entry of this host (its stat, None: it is gone)."""
        if stat is None:
            return ""
        ours = session_of(stat) == session_id
        if self._has_rights:
            return "stands" if ours else ""
        return "delete" if ours or way == "same machine" else ""


def other_owner(host_id: str, owner: str = "", own: str = "") -> OtherOwner:
    """``owner``: the subject that the id belongs to; ``own``: that of this host."""
    whose = printable(owner) if owner else "another certificate"
    ours = f" This host's certificate is {printable(own)}." if own else ""
    return OtherOwner(
        f"host id {host_id} belongs to {whose} in this registry.{ours} If that is the wrong file "
        "in registry_tls, put the right one there. If this host has a new certificate with another "
        "subject, an operator gives the id to that one\n"
        f"→ {command('neti registry admit --replace', host_id, own or 'SUBJECT')}"
    )


@dataclass(frozen=True, slots=True)
class Said:
    """What a host says of itself, as it is written here: ``document`` to every member, ``report``
    to operators (empty: there is none). ``parent``: the rights of ``agents``, which say for both
    whether this tree has rights: an init of an earlier version leaves ``reports`` open."""

    document: bytes
    report: bytes
    parent: rights.Rights

    @classmethod
    def to(
        cls, attempt: Attempt, layout: Layout, document: bytes, report: bytes, *, makes_tree: bool
    ) -> Self:
        """In a tree that an earlier version laid out, with no place for reports, the document is
        all of it, as it was there: else operators would hear nothing until 'neti registry init'."""
        of_agents, of_reports = attempt.acls([layout.agents, layout.reports])
        if report and not of_reports and not makes_tree:
            return cls(report, b"", of_agents)
        return cls(document, report, of_agents)


class DocumentClosed(RegistryError):
    """The detail document or the report is of this session, and this host may not write it, because
    it was made while everything was open, and closed since; or others may do with it what no agent
    lets them. It goes only with the session."""


def refused_document(*documents: str) -> Callable[[Any], RegistryError | None]:
    def explain(operation: Any) -> RegistryError | None:
        if isinstance(operation, SetData) and operation.path in documents:
            return DocumentClosed(f"{operation.path} may not be written by this host any more")
        return None

    return explain


def refused_record(host_id: str, *documents: str) -> Callable[[Any], RegistryError | None]:
    """What it means that an operation of a registration is not allowed. ``documents``: their paths,
    where any are written."""

    def explain(operation: Any) -> RegistryError | None:
        if (closed := refused_document(*documents)(operation)) is not None:
            return closed
        if isinstance(operation, SetData):
            return other_owner(host_id)
        if isinstance(operation, Create) and not operation.flags:
            return NotAdmitted(
                f"host id {host_id} is not admitted to this registry, where only operators may "
                f"begin a host\n→ an operator runs: {command('neti registry admit', host_id)}"
            )
        return None

    return explain
