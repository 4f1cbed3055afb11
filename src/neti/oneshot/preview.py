"""``neti preview``: the agent's answer, or what disk and kernel know where no agent answers.

Whose a socket is, root may look up where the agent's own rights do not reach: so it is done here
for what the agent left unknown.

Must never do: change anything but the list of ports that may be lost.
"""

import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from neti.control.client import AgentUnreachable
from neti.errors import NetiError
from neti.host.listeners import with_owners
from neti.model.settings import Settings
from neti.stage.shadow import Listener, Port, port_name


def seen(
    settings: Settings, ask: Callable[[Path], dict[str, Any]], *, everything: bool
) -> dict[str, Any]:
    """``ask``: for the document of the agent whose state is in this folder. Where none answers,
    from disk and kernel, for whoever may read them. ``everything``: noise is listed too."""
    try:
        found = ask(settings.table_files_path)
    except AgentUnreachable as away:
        from neti.agent.preview import alone  # what takes time is imported where it is needed
        from neti.identity.machine import fingerprint

        if isinstance(away.__cause__, PermissionError) or not settings.table_files_path.is_dir():
            raise
        found = alone(settings, fingerprint(), everything=everything)
    _name_owners(found)
    return found


def _name_owners(document: dict[str, Any]) -> None:
    told = [one for row in document["ports"] for one in row["listeners"] if one["pid"] is None]
    sockets = [
        Listener("", one["port"], ip_address(one["address"]), inode=one["inode"]) for one in told
    ]
    for one, owned in zip(told, with_owners(sockets), strict=True):
        one.update(pid=owned.pid, process=owned.process, unit=owned.unit)


def accept(folder: Path, ports: Sequence[Port], *, forget: bool) -> list[str]:
    """Write down which ports may be lost, in the state ``folder``; ``forget``: what was said before
    no longer counts. Returns all that may be lost, as names."""
    from neti.agent import shadow_log

    if not folder.is_dir():
        raise NetiError(f"{folder} does not exist: no agent has run here, so nothing is recorded")
    if forget:
        shadow_log.forget_accepted(folder)
    if ports:
        shadow_log.accept_losing(folder, ports, time.time())
    return [port_name(port) for port in sorted(shadow_log.accepted(folder))]
