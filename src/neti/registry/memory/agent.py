"""What an agent does with its session in memory. See ``neti.registry.AgentRegistry``.

Must never do: behave better than a real one; the contract tests hold it against them.
"""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from neti.errors import RegistryError
from neti.registry import (
    Question,
    Session,
    Sink,
    Stale,
)
from neti.registry.leases import (
    candidates,
    check_inside,
    exhausted,
)
from neti.registry.memory.server import Holder
from neti.registry.memory.session import OneSession
from neti.registry.record import HostRecord, may_take
from neti.registry.untrusted import (
    identity_held,
    key_taken,
    name_taken,
)

# Former entries of one session that may stand, as with ZooKeeper.
MOST_STANDING: Final = 8


class AgentSide(OneSession):
    def watch(self, sink: Sink, *, hosts: bool = False) -> None:
        with self._server._step():
            if self._sink is not None:
                raise RegistryError("this registry is watched already: open another one")
            self._sink, self._hosts = sink, hosts
            self._server._registries.append(self)
            if self._server._down or self._cut:
                self._events.append(Stale("the registry is down"))
            else:
                self._connect()

    def ask(self, questions: Iterable[Question]) -> None:
        with self._server._step():
            if self._connected:
                self._events.extend(map(self._server._answer, questions))

    def relist(self) -> None:
        with self._server._step():
            self._seen = ("", 0, -1)
            self._told.clear()
            if self._connected:
                self._connect()

    def acquire(
        self, host_id: str, subnet: IPv4Network, *, prefer: IPv4Address | None = None
    ) -> IPv4Address:
        with self._call():
            held = self._lease(host_id)
            if held is not None:
                return check_inside(host_id, held, subnet)
            for overlay in candidates(host_id, subnet, self._server._leases, prefer=prefer):
                self._server._leases[overlay] = host_id
                return overlay
            raise exhausted(host_id, subnet)

    def register(
        self,
        *,
        host_id: str,
        name: str,
        data: bytes,
        detail: bytes,
        report: bytes = b"",
        replaces: str | None = None,
        overlay: IPv4Address | None = None,
        machine: str = "",
        key: str = "",
    ) -> bool:
        server = self._server
        with self._call():
            held = server._records.get(host_id)
            if server.rights:
                former = {replaces or "", held.record.word if held is not None else ""}
                self._leave_standing(former - {name})
            session_id = self._live_session().id
            holder, alive = server._holders.get(host_id), server._alive(host_id)
            way = may_take(
                held.record if held is not None else None,
                alive=alive is not None,
                own_session=alive is not None and alive.session_id == session_id,
                machine=machine,
            )
            another = holder is not None and holder.session_id != session_id
            # Where there are rights anybody could make the document, and the record is the lock.
            if way == "held" or (way == "free" and another and not server.rights):
                holding = holder.session_id if holder is not None else session_id
                raise identity_held(host_id, holding, holder.detail if holder is not None else b"")
            present = server._names.get(name)
            if present is not None and (present is not alive or way != "ours"):
                raise name_taken(name)
            if present is None and (refusal := server._refusal(host_id, self._owner)):
                raise refusal
            if present is None and key and server._keys.get(key, host_id) != host_id:
                raise key_taken(key, server._keys[key].encode())
            kept = server.rights and another
            if not kept:
                server._holders[host_id] = Holder(session_id, detail, report, self._owner)
            if present is None:
                step = next(server._steps)
                record = HostRecord(overlay=overlay, word=name, machine=machine, key=key)
                if key:
                    server._keys[key] = host_id
                server._write_record(host_id, record, step)
                server._owners.setdefault(host_id, self._owner)
                server._add(name, session_id, data, step)
            if server.rights:
                return not kept
            if replaces is not None and replaces != name and self._owns(replaces, session_id):
                server._drop(replaces)
            if way in ("ours", "same machine") and held and held.record.word != name:
                server._drop(held.record.word)
            return True

    def describe(self, host_id: str, detail: bytes, report: bytes = b"") -> bool:
        with self._call():
            session_id = self._live_session().id
            holder, alive = self._server._holders.get(host_id), self._server._alive(host_id)
            ours = holder is not None and holder.session_id == session_id
            if not ours and (alive is None or alive.session_id != session_id):
                raise RegistryError(f"{host_id} is not registered by this agent: register it first")
            if holder is None:
                self._server._holders[host_id] = Holder(session_id, detail, report, self._owner)
            elif ours or not self._server.rights:
                made = Holder(session_id, detail, report, self._owner)
                self._server._holders[host_id] = made
            else:
                return False
            return True

    def leave(self, *, host_id: str, name: str, departure: str) -> None:
        server = self._server
        with self._call():
            session_id = self._live_session().id
            if server.rights:
                self._leave_by_session(host_id, name, departure)
                return
            holder = server._holders.get(host_id)
            if holder is not None and holder.session_id != session_id:
                raise identity_held(host_id, holder.session_id, holder.detail)
            if name in server._names:  # else this call is a repetition
                server._drop(departure)  # said before a return: this one must be heard
            if departure not in server._names:
                step = next(server._steps)
                held = server._records.get(host_id)
                before = held.record if held is not None else HostRecord()
                server._write_record(host_id, replace(before, word=departure), step)
                server._add(departure, session_id, b"", step)
            if self._owns(name, session_id):
                server._drop(name)
            server._holders.pop(host_id, None)

    def _leave_standing(self, names: Iterable[str]) -> None:
        """Members may delete nothing. Now and then the session ends, and they go with it."""
        session_id = self._live_session().id
        self._standing = {n for n in {*self._standing, *names} if self._owns(n, session_id)}
        if len(self._standing) > MOST_STANDING:
            self._server._end(session_id)

    def _leave_by_session(self, host_id: str, name: str, departure: str) -> None:
        """Members delete nothing: the record and another session say goodbye, and this one ends."""
        server, session_id = self._server, self._live_session().id
        alive = server._alive(host_id)
        if alive is not None and alive.session_id not in (session_id, self._farewell):
            raise identity_held(host_id, alive.session_id, b"")
        if departure in server._names and name not in server._names:
            return  # a repetition
        if refusal := server._refusal(host_id, self._owner):
            raise refusal
        held = server._records.get(host_id)
        record = replace(held.record if held is not None else HostRecord(), word=departure)
        server._write_record(host_id, record, next(server._steps))
        server._owners.setdefault(host_id, self._owner)
        if self._farewell is None:
            self._farewell = next(server._ids)
            server._sessions[self._farewell] = Session(self._farewell, b"farewell")
        if departure not in server._names:
            server._add(departure, self._farewell, b"")
        server._end(session_id)
