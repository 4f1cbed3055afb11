"""``neti leftovers``: the agent's answer, or what it last wrote where it does not answer; with the
names of users and processes, which root may look up where the agent's own rights do not reach.

Must never do: write anything.
"""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from neti.control.client import AgentUnreachable
from neti.host.callers import Target, connected, users
from neti.host.cgroups import unit_of
from neti.monitoring.leftovers import Leftover, Leftovers
from neti.stage.leftovers import GROUP_ENDED
from neti.stage.shadow import Listener


def seen(folder: Path, ask: Callable[[Path], Leftovers]) -> Leftovers:
    """``ask``: for what the agent shows whose state is in this folder. Raises NetiError."""
    try:
        found = ask(folder)
    except AgentUnreachable as away:
        if isinstance(away.__cause__, PermissionError) or not folder.is_dir():
            raise
        found = _alone(folder)
    return _named(found)


def _alone(folder: Path) -> Leftovers:
    # What takes time is imported where it is needed.
    from neti.agent.leftover_log import read, shown
    from neti.clock import SteadyClock, SystemClock, boot_id
    from neti.identity.machine import fingerprint
    from neti.model import Member, entry
    from neti.state.folder import StateFolder

    machine = fingerprint()
    loaded = StateFolder(folder, make=False).load(machine)
    steady = SteadyClock(SystemClock(), boot_id(), loaded.mark)
    account, faults = read(folder, machine, steady, boot_id())

    def overlay_of(host_id: str) -> str | None:
        held = loaded.members.get(host_id)
        member = entry.parse(held.name) if held is not None else None
        return str(member.overlay) if isinstance(member, Member) else None

    return shown(account, steady, overlay_of, agent=False, faults=tuple(faults))


def _named(found: Leftovers) -> Leftovers:
    targets = {target for row in found.rows if (target := _target(row)) is not None}
    sockets, names = connected(targets), users()

    def told(row: Leftover) -> Leftover:
        target = _target(row)
        here = sockets.get(target, ()) if target is not None else ()
        its = (one for one in here if _is_of(one, row.group))
        processes = tuple(dict.fromkeys(f"{one.process or '?'} (pid {one.pid})" for one in its))
        user = names.get(row.uid) if row.uid is not None else None
        return replace(row, user=user, processes=processes)

    return replace(found, rows=tuple(map(told, found.rows)))


def _is_of(socket: Listener, group: str) -> bool:
    """Two units of one user may call the same port. A program may have no unit; a row, no group."""
    return not group or group == GROUP_ENDED or socket.unit in (None, unit_of(group))


def _target(row: Leftover) -> Target | None:
    """None: a container's sockets are in another network namespace."""
    if row.uid is None:
        return None
    return ip_address(row.address), row.protocol, row.port, row.uid
