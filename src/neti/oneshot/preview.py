"""``neti preview``: the agent's answer, or what disk and kernel know where no agent answers.

Whose a socket is, root may look up where the agent's own rights do not reach: so it is done here
for what the agent left unknown.

Must never do: change anything but the list of ports that may be lost.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from neti.control.client import AgentUnreachable
from neti.errors import NetiError
from neti.host.listeners import with_owners
from neti.model.settings import Settings
from neti.monitoring.preview import KeptPort, Preview, Socket, Wanted
from neti.stage.shadow import Listener, Port, port_name

R = TypeVar("R", Wanted, KeptPort)


def seen(
    folder: Path,
    settings: Callable[[], Settings],
    ask: Callable[[Path], Preview],
    *,
    everything: bool,
) -> Preview:
    """``ask``: for what the agent shows whose state is in this folder. Where none answers, by the
    settings from disk and kernel, for whoever may read them. ``everything``: noise is listed too.
    """
    try:
        found = ask(folder)
    except AgentUnreachable as away:
        # What takes time is imported where it is needed.
        from neti.identity.machine import fingerprint
        from neti.oneshot.preview_alone import alone

        if isinstance(away.__cause__, PermissionError) or not folder.is_dir():
            raise
        found = alone(settings(), fingerprint(), everything=everything)
    return _with_owners(found)


def _with_owners(shown: Preview) -> Preview:
    """One look at all processes for all sockets whose owner is not known."""
    kept = shown.kept_out
    heard = [row.listeners for row in shown.ports]
    heard += [row.listeners for row in kept.ports] if kept is not None else []
    unknown = [one for listeners in heard for one in listeners if one.pid is None]
    found = with_owners(
        Listener("", one.port, ip_address(one.address), inode=one.inode) for one in unknown
    )
    owned = {
        before: replace(before, pid=one.pid, process=one.process, unit=one.unit)
        for before, one in zip(unknown, found, strict=True)
    }
    ports = tuple(_owned(row, owned) for row in shown.ports)
    if kept is not None:
        kept = replace(kept, ports=tuple(_owned(row, owned) for row in kept.ports))
    return replace(shown, ports=ports, kept_out=kept)


def _owned(row: R, owned: Mapping[Socket, Socket]) -> R:
    return replace(row, listeners=tuple(owned.get(one, one) for one in row.listeners))


def accept(
    folder: Path, ports: Sequence[Port], *, back: Sequence[Port] = (), forget: bool
) -> list[str]:
    """Write down which ports may be lost, in the state ``folder``; ``back``: that of these no
    longer counts; ``forget``: nor of any other one. Returns all that may be lost, as names. Raises
    NetiError where one that is to be taken back was never accepted: nothing is changed then."""
    from neti.agent import shadow_log

    if not folder.is_dir():
        raise NetiError(f"{folder} does not exist: no agent has run here, so nothing is recorded")
    if forget:
        shadow_log.forget_accepted(folder)
    if back and not forget:
        _take_back(folder, back)
    if ports:
        shadow_log.accept_losing(folder, ports, time.time())
    return [port_name(port) for port in sorted(shadow_log.accepted(folder))]


def _take_back(folder: Path, ports: Sequence[Port]) -> None:
    from neti.agent import shadow_log

    held = shadow_log.accepted(folder)
    if unknown := [port_name(port) for port in ports if port not in held]:
        known = ", ".join(port_name(port) for port in sorted(held)) or "none"
        raise NetiError(
            f"never accepted as lost: {', '.join(unknown)}; accepted are: {known}. "
            "Nothing was changed"
        )
    shadow_log.take_back(folder, ports)
