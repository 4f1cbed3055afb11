"""What operators' commands do with the file. See ``neti.registry.OperatorRegistry``.

Must never do: register a host, or say for it that it leaves.
"""

import time
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address

from neti.errors import IdentityHeld
from neti.model.entry import encode_moved
from neti.registry import Detail, HostRead, SettingEdit, SettingName, revoked
from neti.registry.detail import MAX_DETAIL_BYTES
from neti.registry.embedded.calls import OneSession, lease_of, rows
from neti.registry.embedded.files import Files
from neti.registry.embedded.store import (
    add_lease,
    all_leases,
    all_names,
    drop_key,
    drop_lease,
    fleet_id,
    log_change,
    made_in,
    read_record,
    revoke_key,
    take_name,
    write_record,
)
from neti.registry.embedded.watch import host_read
from neti.registry.leases import check_move, moved_from_nobody, moved_while_registered
from neti.registry.names import follow_lease
from neti.registry.record import REVOKED, HostRecord, decode, encode
from neti.registry.revoked import RevokedKey
from neti.registry.untrusted import (
    bounded_data,
    bounded_name,
    bounded_setting,
    host_id_text,
    key_not_its,
)


class OperatorSide(OneSession):
    def names(self) -> frozenset[str]:
        with self._reading() as files:
            return frozenset(map(bounded_name, all_names(files.store)))

    def data(self, names: Iterable[str]) -> dict[str, bytes]:
        with self._reading() as files:
            found = {}
            for name in names:
                for (data,) in rows(files, "SELECT data FROM names WHERE name = ?", name):
                    found[name] = bounded_data(data)
            return found

    def details(self, host_ids: Iterable[str] | None = None) -> list[Detail]:
        wanted = None if host_ids is None else set(host_ids)
        with self._reading() as files:
            held = rows(files, "SELECT host_id, detail, session FROM holders ORDER BY host_id")
            return [
                Detail(host_id, detail[:MAX_DETAIL_BYTES], session)
                for host_id, detail, session in held
                if wanted is None or host_id in wanted
            ]

    def reports(self, host_ids: Iterable[str]) -> list[Detail] | None:
        """Whoever opens the file may read all of it."""
        wanted = set(host_ids)
        with self._reading() as files:
            held = rows(files, "SELECT host_id, report, session FROM reports ORDER BY host_id")
            return [
                Detail(host_id, report[:MAX_DETAIL_BYTES], session)
                for host_id, report, session in held
                if host_id in wanted
            ]

    def leases(self) -> Mapping[IPv4Address, str]:
        with self._reading() as files:
            held = all_leases(files.store)
            return {IPv4Address(overlay): host_id_text(host.encode()) for overlay, host in held}

    def lease_of(self, host_id: str) -> IPv4Address | None:
        with self._reading() as files:
            return lease_of(files, host_id)

    def records(self, host_ids: Iterable[str] | None = None) -> Mapping[str, HostRead]:
        with self._reading() as files:
            wanted = host_ids
            if wanted is None:
                wanted = [row[0] for row in rows(files, "SELECT host_id FROM records")]
            found = (host_read(files, host_id) for host_id in wanted)
            return {one.host_id: one for one in found if one.written}

    def owners(self) -> Mapping[str, str]:
        return {}

    def made(self, names: Iterable[str]) -> Mapping[str, int]:
        with self._reading() as files:
            return {name: step for name in names if (step := made_in(files.store, name))}

    def sessions(self, names: Iterable[str]) -> Mapping[str, int]:
        with self._reading() as files:
            found = {}
            for name in names:
                for (session,) in rows(files, "SELECT session FROM names WHERE name = ?", name):
                    found[name] = session
            return found

    def unreadable(self) -> frozenset[str]:
        return frozenset()

    def release(self, host_id: str) -> IPv4Address | None:
        self._reap()
        with self._writing() as files:
            if rows(files, "SELECT 1 FROM holders WHERE host_id = ?", host_id):
                raise IdentityHeld(
                    f"{host_id} is registered: its agent has to leave before its lease is released"
                )
            overlay = lease_of(files, host_id)
            _names_follow(files, host_id, None)
            drop_lease(files.store, host_id)
            if _give_up_key(files, host_id):
                write_record(files.store, host_id, None)
            if overlay is not None:
                _tell_moved(files, overlay, host_id)
        files.ring()
        return overlay

    def move(
        self, old: str, new: str, *, force: bool = False
    ) -> tuple[IPv4Address, IPv4Address | None]:
        check_move(old, new)
        self._reap()
        with self._writing() as files:
            overlay, former = lease_of(files, old), lease_of(files, new)
            if overlay is None:
                raise moved_from_nobody(old)
            if not force and rows(files, "SELECT 1 FROM holders WHERE host_id = ?", old):
                raise moved_while_registered(old)
            _names_follow(files, old, new)
            drop_lease(files.store, old)
            drop_lease(files.store, new)
            add_lease(files.store, int(overlay), new)
            if _give_up_key(files, old):
                write_record(files.store, old, encode(HostRecord()))
            _tell_moved(files, overlay, new)
        files.ring()
        return overlay, former

    def revoke_key(self, host_id: str, key: str | None = None) -> RevokedKey | None:
        self._reap()
        with self._writing() as files:
            held = read_record(files.store, host_id)
            record = decode(held[0]) if held is not None else None
            said = record.key if record is not None else ""
            wanted = key or said
            if not wanted:
                return None
            holders = rows(files, "SELECT host_id FROM keys WHERE key = ?", wanted)
            holder = str(holders[0][0]) if holders else None
            values = rows(files, "SELECT value FROM settings WHERE setting = ?", "revoked")
            raw = bytes(values[0][0]) if values else None
            if holder == REVOKED and revoked.names(raw, wanted):
                return None
            if holder is not None and holder != host_id:
                other = read_record(files.store, holder)
                others = decode(other[0]) if other is not None else None
                if others is not None and others.key == wanted:
                    raise key_not_its(host_id, wanted, holder)
            revoke_key(files.store, wanted, REVOKED)
            _write_setting(files, "revoked", revoked.added(raw, wanted))
            # Only an entry that was made with the record is its host's.
            alive = (
                held is not None
                and record is not None
                and made_in(files.store, record.word) == held[1]
            )
            if (
                alive
                and record is not None
                and said == wanted
                and not record.word.startswith("left.")
            ):
                take_name(files.store, record.word)
        files.ring()
        return RevokedKey(wanted, said=said)

    def fleet(self) -> str:
        with self._reading() as files:
            return fleet_id(files.store)

    def setting(self, setting: SettingName) -> bytes | None:
        with self._reading() as files:
            held = rows(files, "SELECT value FROM settings WHERE setting = ?", setting)
            return bounded_setting(setting, bytes(held[0][0])) if held else None

    def edit_setting(self, setting: SettingName, edit: SettingEdit) -> None:
        with self._writing() as files:
            held = rows(files, "SELECT value FROM settings WHERE setting = ?", setting)
            before = bounded_setting(setting, bytes(held[0][0])) if held else None
            value = edit(before)
            if value != before:
                _write_setting(files, setting, value)
        files.ring()

    def change_setting(self, setting: SettingName, value: bytes | None) -> None:
        with self._writing() as files:
            _write_setting(files, setting, value)
        files.ring()


def _write_setting(files: Files, setting: SettingName, value: bytes | None) -> None:
    files.store.execute("DELETE FROM settings WHERE setting = ?", (setting,))
    if value is not None:
        files.store.execute("INSERT INTO settings VALUES (?, ?)", (setting, value))
    log_change(files.store, "s", setting)


def _names_follow(files: Files, old: str, new: str | None) -> None:
    """Names stand for leases: the lease of ``old`` is that of ``new``, or nobody's."""
    held = rows(files, "SELECT value FROM settings WHERE setting = ?", "names")
    value = follow_lease(bytes(held[0][0]) if held else None, old, new, time.time())
    if value is not None:
        _write_setting(files, "names", value)


def _give_up_key(files: Files, host_id: str) -> bool:
    """Nobody holds the key that the host's record says. Whether there is a record."""
    held = read_record(files.store, host_id)
    record = decode(held[0]) if held is not None else None
    if record is not None and record.key:
        drop_key(files.store, record.key, host_id)
    return held is not None


def _tell_moved(files: Files, overlay: IPv4Address, host_id: str) -> None:
    word = encode_moved(overlay, host_id)
    # Whoever made a name of this spelling must not keep watchers from hearing it.
    files.store.execute("DELETE FROM names WHERE name = ?", (word,))
    log_change(files.store, "+", word)
    log_change(files.store, "-", word)
