"""What operators' commands do with a session in ZooKeeper. See ``neti.registry.OperatorRegistry``.

Must never do: keep the session, or anything made with it, when the command is over.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Address
from typing import Any, Final, TypeVar

from kazoo.protocol.serialization import Create, Delete, Exists, SetData
from kazoo.security import Id

from neti.errors import NoTree
from neti.registry import Detail, HostRead, SettingEdit, SettingName, revoked
from neti.registry.detail import MAX_DETAIL_BYTES
from neti.registry.leases import DamagedLease, check_move
from neti.registry.names import follow_lease
from neti.registry.record import REVOKED, decode
from neti.registry.revoked import RevokedKey
from neti.registry.untrusted import bounded_data, bounded_setting, host_id_text, key_not_its
from neti.registry.zookeeper import init as zookeeper_init
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt, session_of
from neti.registry.zookeeper.init import InitPlan
from neti.registry.zookeeper.layout import Layout
from neti.registry.zookeeper.leases import ANY_VERSION, overlay_of
from neti.registry.zookeeper.session import OneSession

T = TypeVar("T")
_IN_ONE_PART: Final = 500


class OperatorSide(OneSession):
    def names(self) -> frozenset[str]:
        def operation(attempt: Attempt) -> list[str]:
            found = attempt.names(self._layout.ip_map)
            if not found:
                self._need_tree(attempt)
            return found

        return frozenset(self._attempt(operation))

    def data(self, names: Iterable[str]) -> dict[str, bytes]:
        wanted = list(names)
        found = zip(wanted, self._nodes(map(self._layout.name, wanted)), strict=True)
        return {name: bounded_data(node[0]) for name, node in found if node is not None}

    def details(self, host_ids: Iterable[str] | None = None) -> list[Detail]:
        wanted = host_ids
        if wanted is None:
            wanted = self._attempt(lambda attempt: attempt.names(self._layout.agents))
        return self._documents(wanted, self._layout.agent)

    def reports(self, host_ids: Iterable[str]) -> list[Detail] | None:
        if not self._attempt(self._is_operator):
            return None
        return self._documents(host_ids, self._layout.report)

    def _documents(self, host_ids: Iterable[str], path_of: Callable[[str], str]) -> list[Detail]:
        ids = sorted(host_ids)
        found = zip(ids, self._nodes(map(path_of, ids)), strict=True)
        return [
            Detail(i, node[0][:MAX_DETAIL_BYTES], session_of(node[1]))
            for i, node in found
            if node is not None
        ]

    def _is_operator(self, attempt: Attempt) -> bool:
        """Or where there are no rights, so that nobody has to be one. Asked once for all reports: a
        member would be refused at each of thousands."""
        (of_agents,) = attempt.acls([self._layout.agents])
        if not of_agents or rights.harmful(of_agents):
            return True
        own = None
        if self._files is not None:
            from neti.registry.zookeeper.certificates import subject

            own = subject(self._files.cert)
        subjects = zookeeper_init.subjects_of(attempt, own)
        return bool(rights.granted(of_agents, subjects) & rights.DELETE)

    def leases(self) -> Mapping[IPv4Address, str]:
        """By the last write of the half that names the host. Nobody can make that one older, and
        agents write it once; whoever may write its own could make it name another host later."""

        def operation(attempt: Attempt) -> list[IPv4Address]:
            found = list(self._leases.taken(attempt))
            if not found:
                self._need_tree(attempt)
            return found

        taken = self._attempt(operation)
        found = zip(taken, self._nodes(map(self._layout.by_overlay, taken)), strict=True)
        held = [(node[1].mzxid, overlay, node[0]) for overlay, node in found if node is not None]
        return {overlay: host_id_text(data) for _, overlay, data in sorted(held)}

    def _need_tree(self, attempt: Attempt) -> None:
        """Without TLS agents lay it out, so there is none only before the first of them."""
        if self._files is not None and not attempt.exists(self._layout.ip_map):
            raise NoTree(self._layout.no_tree)

    def _nodes(self, paths: Iterable[str]) -> Iterator[tuple[bytes, Any] | None]:
        """One part after another, each with a deadline of its own: members can make so many nodes
        that one for all would always pass."""
        left = list(paths)
        while left:
            part, left = left[:_IN_ONE_PART], left[_IN_ONE_PART:]
            yield from self._attempt(partial(Attempt.nodes, paths=part, unread=self._unread))

    def lease_of(self, host_id: str) -> IPv4Address | None:
        def operation(attempt: Attempt) -> IPv4Address | None:
            (data,) = attempt.read([self._layout.by_id(host_id)], unread=self._unread)
            return overlay_of(data) if data is not None else None

        return self._attempt(operation)

    def records(self, host_ids: Iterable[str] | None = None) -> Mapping[str, HostRead]:
        wanted = host_ids
        if wanted is None:
            wanted = self._attempt(lambda attempt: attempt.names(self._layout.hosts))
        ids = sorted(wanted)
        found = zip(ids, self._nodes(map(self._layout.host, ids)), strict=True)
        return {i: HostRead(i, decode(n[0]), n[1].mzxid) for i, n in found if n is not None}

    def owners(self) -> Mapping[str, str]:
        def known(attempt: Attempt) -> list[Id]:
            (of_hosts,) = attempt.acls([self._layout.hosts])
            return [] if rights.harmful(of_hosts) else rights.operators(of_hosts)

        operators = self._attempt(known)
        ids = sorted(set(self.leases().values())) if operators else []
        found: dict[str, str] = {}
        for first in range(0, len(ids), _IN_ONE_PART):
            part = ids[first : first + _IN_ONE_PART]
            look = partial(
                Attempt.acls, paths=list(map(self._layout.host, part)), unread=self._unread
            )
            for host_id, acl in zip(part, self._attempt(look), strict=True):
                if (subject := rights.owner_of_record(acl, operators)) is not None:
                    found[host_id] = subject
        return found

    def made(self, names: Iterable[str]) -> Mapping[str, int]:
        wanted = list(names)
        found = zip(wanted, self._nodes(map(self._layout.name, wanted)), strict=True)
        return {name: node[1].czxid for name, node in found if node is not None}

    def sessions(self, names: Iterable[str]) -> Mapping[str, int]:
        wanted = list(names)
        found = zip(wanted, self._nodes(map(self._layout.name, wanted)), strict=True)
        return {name: session_of(node[1]) for name, node in found if node is not None}

    def unreadable(self) -> frozenset[str]:
        return frozenset(self._unread)

    def release(self, host_id: str) -> IPv4Address | DamagedLease | None:
        freed: list[
            IPv4Address | DamagedLease
        ] = []  # known even when the answer to the multi was lost

        def look(attempt: Attempt) -> list[Any]:
            operations, overlay = self._leases.release(attempt, host_id)
            if operations:
                freed[:] = [overlay] if overlay is not None else []
            return [*operations, *self._names_follow(attempt, host_id, None)]

        self._attempt_as_operator(lambda attempt: self._write(attempt, look))
        return freed[0] if freed else None

    def move(
        self, old: str, new: str, *, force: bool = False
    ) -> tuple[IPv4Address, IPv4Address | None]:
        check_move(old, new)
        tried: list[tuple[IPv4Address, IPv4Address | None]] = []

        def look(attempt: Attempt) -> list[Any]:
            if tried and self._leases.held(attempt, new) == tried[0][0]:
                return []  # done, only the answer was lost
            operations, outcome = self._leases.move(attempt, old, new, force=force)
            tried[:] = [outcome]
            return [*operations, *self._names_follow(attempt, old, new)]

        self._attempt_as_operator(lambda attempt: self._write(attempt, look))
        return tried[0]

    def _names_follow(self, attempt: Attempt, old: str, new: str | None) -> list[Any]:
        """Names stand for leases: the lease of ``old`` is that of ``new``, or nobody's."""
        path = self._layout.setting("names")
        (held,) = attempt.nodes([path])
        value = follow_lease(held[0], old, new, time.time()) if held is not None else None
        return [SetData(path, value, held[1].version)] if held is not None and value else []

    def revoke_key(self, host_id: str, key: str | None = None) -> RevokedKey | None:
        tried: list[RevokedKey] = []  # known even when the answer to the multi was lost

        def look(attempt: Attempt) -> list[Any]:
            # A record that operators cannot read may be read by peers: that is not none.
            unread = set[str]()
            may_be_unread = unread if key else None
            (held,) = attempt.nodes([self._layout.host(host_id)], unread=may_be_unread)
            record = decode(held[0]) if held is not None else None
            said = record.key if record is not None else ""
            wanted = key or said
            if not wanted:
                return []
            marking, left = self._mark_revoked(attempt, host_id, wanted)
            gone = list[Any]()
            if held is not None and record is not None and said == wanted:
                stands, nailed = self._entry_of(attempt, record.word, held[1].mzxid)
                gone, left = [Delete(path, ANY_VERSION) for path in stands], (*left, *nailed)
            if marking:
                tried[:] = [RevokedKey(wanted, left, said=None if unread else said)]
            return [*marking, *gone]

        self._attempt_as_operator(lambda attempt: self._write(attempt, look))
        return tried[0] if tried else None

    def _entry_of(
        self, attempt: Attempt, word: str, written: int
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The entry that a record names, if it can be deleted; and if not. Only one that was made
        with the record is its host's: whoever writes a record may name another host's in it."""
        if not word or word.startswith("left."):
            return (), ()
        path = self._layout.name(word)
        (stat,) = attempt.stats([path])
        if stat is None or stat.czxid != written:
            return (), ()
        return ((), (path,)) if stat.numChildren else ((path,), ())

    def _mark_revoked(
        self, attempt: Attempt, host_id: str, key: str
    ) -> tuple[list[Any], tuple[str, ...]]:
        """For every agent, and for whoever would register with it. A member may have made the node
        of the key, with any rights, or nodes below it: that keeps no operator from this."""
        layout, left = self._layout, tuple[str, ...]()
        path, listed = layout.key(key), layout.revoked
        node, setting = attempt.nodes([path, listed], unread=set())
        (stat,) = attempt.stats([path])
        of_keys, of_key, of_root = attempt.acls(
            [layout.keys, path, listed.rpartition("/")[0] or "/"], unread=set()
        )
        holder = host_id_text(node[0]) if node is not None else None
        if holder not in (None, host_id, REVOKED):
            (other,) = attempt.nodes([layout.host(holder or "")], unread=set())
            record = decode(other[0]) if other is not None else None
            if record is not None and record.key == key:
                raise key_not_its(host_id, key, holder or "")
        operations: list[Any] = []
        raw = setting[0] if setting is not None else None
        if not revoked.names(raw, key):
            text = revoked.added(raw, key)
            operations.append(
                SetData(listed, text, setting[1].version)
                if setting is not None
                else Create(listed, text, rights.of_child(of_root), 0)
            )
        mine = rights.of_child(of_keys, owner=None)
        if holder == REVOKED or (stat is None and not of_keys):
            return operations, left
        if stat is None:
            operations.append(Create(path, REVOKED.encode(), mine, 0))
        elif not stat.numChildren:
            operations.append(Delete(path, stat.version))
            operations.append(Create(path, REVOKED.encode(), mine, 0))
        elif set(rights.operators(of_keys)) & set(rights.operators(of_key)):
            operations.append(SetData(path, REVOKED.encode(), stat.version))
        else:
            left = (path,)
        return operations, left

    def fleet(self) -> str:
        (value,) = self._attempt(lambda attempt: attempt.read([self._layout.fleet]))
        return host_id_text(value or b"")

    def setting(self, setting: SettingName) -> bytes | None:
        path = self._layout.setting(setting)

        def operation(attempt: Attempt) -> bytes | None:
            (value,) = attempt.read([path])
            return bounded_setting(setting, value) if value is not None else None

        return self._attempt(operation)

    def change_setting(self, setting: SettingName, value: bytes | None) -> None:
        path = self._layout.setting(setting)

        def look(attempt: Attempt) -> list[Any]:
            present = attempt.one(Exists(path, None)) is not None
            if value is None:
                return [Delete(path, ANY_VERSION)] if present else []
            if present:
                return [SetData(path, value, ANY_VERSION)]
            (parent,) = attempt.acls([path.rpartition("/")[0] or "/"])
            return [Create(path, value, rights.of_child(parent), 0)]

        self._attempt_as_operator(lambda attempt: self._write(attempt, look))

    def edit_setting(self, setting: SettingName, edit: SettingEdit) -> None:
        path = self._layout.setting(setting)

        def look(attempt: Attempt) -> list[Any]:
            (held,) = attempt.nodes([path])
            before = bounded_setting(setting, held[0]) if held is not None else None
            value = edit(before)
            if value == before:
                return []
            if held is not None:
                version = held[1].version
                return [Delete(path, version) if value is None else SetData(path, value, version)]
            (parent,) = attempt.acls([path.rpartition("/")[0] or "/"])
            return [Create(path, value, rights.of_child(parent), 0)]

        self._attempt_as_operator(lambda attempt: self._write(attempt, look))

    def plan_init(self, operators: Sequence[str] = (), *, close_root: bool = False) -> InitPlan:
        """What is missing in the tree. With TLS the caller is one of the ``operators`` too.
        ``close_root``: what stands beside the tree is closed as well."""
        own = None
        if self._files is not None:
            from neti.registry.zookeeper.certificates import subject

            own = subject(self._files.cert)

        def operation(attempt: Attempt) -> InitPlan:
            known = zookeeper_init.subjects_of(attempt, own) if own is not None else ()
            return zookeeper_init.plan(
                attempt, self._layout, (*known, *operators), close_root=close_root
            )

        return self._attempt_as_operator(operation)

    def init(self, planned: InitPlan) -> list[str]:
        return self._attempt_as_operator(
            lambda attempt: zookeeper_init.carry_out(attempt, self._layout, planned)
        )

    def inspect(self, look: Callable[[Attempt, Layout], T]) -> T:
        """For ``zookeeper_check``, which looks at what no agent needs."""
        return self._attempt(lambda attempt: look(attempt, self._layout))

    def operate(self, change: Callable[[Attempt, Layout], T]) -> T:
        """As ``inspect``, for what operators change."""
        return self._attempt_as_operator(lambda attempt: change(attempt, self._layout))
