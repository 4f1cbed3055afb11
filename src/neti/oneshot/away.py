"""Hosts that hold a lease and are not registered: what the registry and this host's agent say of
them. Reads."""

import contextlib
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from neti.control import client
from neti.errors import NetiError
from neti.fleet import attendance
from neti.fleet.attendance import Word
from neti.fleet.fleet import Fleet
from neti.fleet.listing import Row
from neti.fleet.registered import id_of
from neti.model.settings import Settings
from neti.monitoring.status import status_of

PATIENCE: Final = 2.0  # seconds for an agent that is only asked since when somebody is gone


def absent(
    settings: Settings,
    fleet: Fleet,
    skipped: Iterable[str],
    known: Mapping[str, ipaddress.IPv4Address],
    expected: Mapping[str, ipaddress.IPv4Address],
) -> list[Row]:
    """Since when they are gone, only an agent knows: this host's, where there is one."""
    leases = {**known, **expected}
    missing = leases.keys() - fleet.members.keys()
    if not missing:
        return []
    folder = settings.table_files_path
    words = None
    with contextlib.suppress(NetiError):
        status = status_of(client.call(folder, "status", within=PATIENCE))
        members = client.call(folder, "members", within=PATIENCE)
        sites = {str(one["id"]): str(one["site"]) for one in members}
        lingers = settings.linger_seconds
        words = {
            one.id: Word("lost", one.since, sites.get(one.id), _left(one.seconds, lingers))
            for one in status.lost
        }
        words |= {one.id: Word("held", one.since, sites.get(one.id)) for one in status.holds}
    return attendance.absent(
        leases,
        fleet.members,
        left={host_id for host_id in missing if fleet.departed(host_id) is not None},
        not_believed=missing & {id_of(name) for name in skipped},
        expected=expected.keys(),
        words=words,
    )


def _left(gone: float | None, lingers: float) -> float | None:
    """Seconds until peers let go of a host that has been gone for so many."""
    return None if gone is None else max(0.0, lingers - gone)


def stale_seconds(settings: Settings, ask: Callable[[Path, str], Any]) -> float | None:
    """For how long this host's agent has not followed the registry."""
    with contextlib.suppress(NetiError):
        return status_of(ask(settings.table_files_path, "status")).registry.stale_seconds
    return None
