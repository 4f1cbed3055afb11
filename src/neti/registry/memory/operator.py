"""What operators' commands do with a registry in memory. See ``neti.registry.OperatorRegistry``.

Must never do: behave better than a real one; the contract tests hold it against them.
"""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address

from neti.errors import IdentityHeld
from neti.registry import (
    Detail,
    HostRead,
    SettingEdit,
    SettingName,
    revoked,
)
from neti.registry.detail import MAX_DETAIL_BYTES
from neti.registry.leases import (
    check_move,
    moved_from_nobody,
    moved_while_registered,
)
from neti.registry.memory.session import OneSession
from neti.registry.names import follow_lease
from neti.registry.record import REVOKED, HostRecord
from neti.registry.revoked import RevokedKey
from neti.registry.untrusted import (
    bounded_data,
    bounded_name,
    bounded_setting,
    key_not_its,
)


class OperatorSide(OneSession):
    def names(self) -> frozenset[str]:
        with self._call():
            return frozenset(map(bounded_name, self._server._names))

    def data(self, names: Iterable[str]) -> dict[str, bytes]:
        with self._call():
            present = self._server._names
            return {name: bounded_data(present[name].data) for name in names if name in present}

    def details(self, host_ids: Iterable[str] | None = None) -> list[Detail]:
        wanted = None if host_ids is None else set(host_ids)
        with self._call():
            holders = sorted(self._server._holders.items())
            return [
                Detail(i, held.detail[:MAX_DETAIL_BYTES], held.session_id)
                for i, held in holders
                if wanted is None or i in wanted
            ]

    def reports(self, host_ids: Iterable[str]) -> list[Detail] | None:
        wanted = set(host_ids)
        with self._call():
            if self._server.rights and self._owner:
                return None
            holders = sorted(self._server._holders.items())
            return [
                Detail(i, held.report[:MAX_DETAIL_BYTES], held.session_id)
                for i, held in holders
                if i in wanted and held.report
            ]

    def leases(self) -> Mapping[IPv4Address, str]:
        with self._call():
            return dict(self._server._leases)

    def lease_of(self, host_id: str) -> IPv4Address | None:
        with self._call():
            return self._lease(host_id)

    def records(self, host_ids: Iterable[str] | None = None) -> Mapping[str, HostRead]:
        server = self._server
        with self._call():
            wanted = server._records if host_ids is None else host_ids
            return {i: server._host_read(i) for i in wanted if i in server._records}

    def owners(self) -> Mapping[str, str]:
        server = self._server
        with self._call():
            leased = set(server._leases.values()) if server.rights else ()
            return {i: owner for i, owner in server._owners.items() if i in leased}

    def made(self, names: Iterable[str]) -> Mapping[str, int]:
        with self._call():
            present = self._server._names
            return {name: present[name].made for name in names if name in present}

    def sessions(self, names: Iterable[str]) -> Mapping[str, int]:
        with self._call():
            present = self._server._names
            return {name: present[name].session_id for name in names if name in present}

    def unreadable(self) -> frozenset[str]:
        return frozenset()

    def release(self, host_id: str) -> IPv4Address | None:
        with self._call():
            if self._server._registered(host_id):
                raise IdentityHeld(
                    f"{host_id} is registered: its agent has to leave before its lease is released"
                )
            overlay = self._lease(host_id)
            self._names_follow(host_id, None)
            if overlay is not None:
                del self._server._leases[overlay]
                self._server._tell_moved(overlay, host_id)
            self._server._give_up_key(host_id)
            kept = HostRecord() if self._server.admission else None
            if host_id in self._server._records:
                self._server._write_record(host_id, kept, next(self._server._steps))
            return overlay

    def move(
        self, old: str, new: str, *, force: bool = False
    ) -> tuple[IPv4Address, IPv4Address | None]:
        check_move(old, new)
        with self._call():
            overlay, former = self._lease(old), self._lease(new)
            if overlay is None:
                raise moved_from_nobody(old)
            if self._server._registered(old) and not force:
                raise moved_while_registered(old)
            self._names_follow(old, new)
            if former is not None:
                del self._server._leases[former]
            del self._server._leases[overlay]  # its place in the order is that of the move
            self._server._leases[overlay] = new
            if old in self._server._records:
                self._server._give_up_key(old)
                self._server._write_record(old, HostRecord(), next(self._server._steps))
            self._server._tell_moved(overlay, new)
            return overlay, former

    def _names_follow(self, old: str, new: str | None) -> None:
        """Names stand for leases: the lease of ``old`` is that of ``new``, or nobody's."""
        value = follow_lease(self._server._settings.get("names"), old, new, self._server.wall())
        if value is not None:
            self._server._settings["names"] = value
            for registry in self._server._registries:
                registry._tell_settings()

    def revoke_key(self, host_id: str, key: str | None = None) -> RevokedKey | None:
        server = self._server
        with self._call():
            held = server._records.get(host_id)
            said = held.record.key if held is not None else ""
            wanted = key or said
            holder = server._keys.get(wanted)
            raw = server._settings.get("revoked")
            if not wanted or (holder == REVOKED and revoked.names(raw, wanted)):
                return None
            other = server._records.get(holder or "") if holder != host_id else None
            if other is not None and other.record.key == wanted:
                raise key_not_its(host_id, wanted, holder or "")
            server._keys[wanted] = REVOKED
            server._settings["revoked"] = revoked.added(raw, wanted)
            for registry in server._registries:
                registry._tell_settings()
            alive = held is not None and said == wanted and server._alive(host_id) is not None
            if alive and held is not None and not held.record.word.startswith("left."):
                server._drop(held.record.word)
            return RevokedKey(wanted, said=said)

    def fleet(self) -> str:
        with self._call():
            return self._server.fleet

    def setting(self, setting: SettingName) -> bytes | None:
        with self._call():
            value = self._server._settings.get(setting)
            return bounded_setting(setting, value) if value is not None else None

    def change_setting(self, setting: SettingName, value: bytes | None) -> None:
        self.edit_setting(setting, lambda _: value)

    def edit_setting(self, setting: SettingName, edit: SettingEdit) -> None:
        with self._call():
            held = self._server._settings.get(setting)
            value = edit(bounded_setting(setting, held) if held is not None else None)
            if value is None:
                self._server._settings.pop(setting, None)
            else:
                self._server._settings[setting] = value
            for registry in self._server._registries:
                registry._tell_settings()
