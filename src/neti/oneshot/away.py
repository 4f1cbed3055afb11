"""Hosts that hold a lease, or that this host's agent keeps, and that are not registered: what the
registry and this host's agent say of them. Reads."""

import contextlib
import ipaddress
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from neti.control.aside import ASIDES
from neti.control.client import AgentSilent, AgentUnreachable
from neti.errors import NetiError, RegistryUnavailable
from neti.fleet import attendance
from neti.fleet.attendance import Word
from neti.fleet.fleet import Fleet
from neti.fleet.listing import Row
from neti.fleet.registered import id_of
from neti.model.settings import Settings
from neti.monitoring.status import status_of


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
    words = None
    with contextlib.suppress(NetiError):
        words = _words(settings, fleet, missing)
    return attendance.absent(
        leases,
        fleet.members,
        left={host_id for host_id in missing if fleet.departed(host_id) is not None},
        not_believed=missing & {id_of(name) for name in skipped},
        expected=expected.keys(),
        words=words,
    )


def _words(settings: Settings, fleet: Fleet, missing: Collection[str]) -> dict[str, Word]:
    """By id what this host's agent says. It also knows whom it keeps though the registry, wiped
    perhaps, has no lease of theirs. Raises NetiError where no agent answers."""
    folder, lingers = settings.table_files_path, settings.linger_seconds
    status = status_of(ASIDES.ask(folder, "status"))
    kept = {one.id for one in (*status.lost, *status.holds)} - fleet.members.keys()
    if not missing and not kept:
        return {}
    told = ASIDES.ask(folder, "members")
    sites = {str(one["id"]): str(one["site"]) for one in told}
    words = {
        one.id: Word(
            "lost",
            one.since,
            sites.get(one.id),
            _left(one.seconds, lingers),
            one.overlay,
        )
        for one in status.lost
    }
    words |= {
        one.id: Word("held", one.since, sites.get(one.id), overlay=one.overlay)
        for one in status.holds
    }
    if status.id in missing:  # it does not count itself among those who are away
        words.setdefault(status.id, Word("lost", site=status.site))
    return words


def _left(gone: float | None, lingers: float) -> float | None:
    """Seconds until peers let go of a host that has been gone for so many."""
    return None if gone is None else max(0.0, lingers - gone)


def neither(away: RegistryUnavailable, unreachable: AgentUnreachable) -> RegistryUnavailable:
    """Why nobody tells who is a member. An agent that hangs is named too: that the registry does
    not answer is not all that is wrong here."""
    if not isinstance(unreachable, AgentSilent):
        return away
    return RegistryUnavailable(f"{away}\nand {unreachable}")


def stale_seconds(settings: Settings, ask: Callable[[Path, str], Any]) -> float | None:
    """For how long this host's agent has not followed the registry."""
    with contextlib.suppress(NetiError):
        return status_of(ask(settings.table_files_path, "status")).registry.stale_seconds
    return None
