"""What an operator of a lab does by hand: which labs there are, and their processes one by one."""

import signal
from collections.abc import Callable, Sequence
from typing import Any, Final

from neti_lab import LabError, agents, ensemble, lifecycle, namespaces, processes
from neti_lab import state as states
from neti_lab.processes import Process
from neti_lab.state import LabState, is_held, open_state
from neti_lab.topology import LabHost

_GRACE_SECONDS: Final = 10.0  # an agent that stops says goodbye to nobody, and writes its files


def labs() -> list[dict[str, Any]]:
    """By name, as JSON values: those that are up, and those of which something is left. ``held``:
    a command builds it, plays on it or takes it down."""
    namespaces.require()
    folders = states.LABS.iterdir() if states.LABS.is_dir() else ()
    return [_described(open_state(one.name)) for one in sorted(folders) if one.is_dir()]


def _described(state: LabState) -> dict[str, Any]:
    held = is_held(state)
    try:
        plan = state.plan()
    except LabError:
        nothing = {"registry": None, "hosts": 0, "agents": 0}
        return {"name": state.name, "up": False, "held": held, **nothing}
    running = [host for host in plan.hosts if agents.agent_of(host, state=state) is not None]
    return {
        "name": state.name,
        "up": lifecycle.is_up(state),
        "held": held,
        "registry": plan.registry,
        "hosts": len(plan.hosts),
        "agents": len(running),
    }


def chosen(state: LabState, names: Sequence[str]) -> list[LabHost]:
    """Hosts, servers and proxies of a lab; LabError when one of them is none, before any is
    touched."""
    plan = state.plan()
    known = {host.name: host for host in (*plan.hosts, *plan.keepers)}
    if unknown := [name for name in names if name not in known]:
        raise LabError(
            f"in the lab {state.name!r} no process is called {', '.join(unknown)}: "
            f"it has {', '.join(known)}"
        )
    return [known[name] for name in dict.fromkeys(names)]


def _process(state: LabState, host: LabHost) -> Process | None:
    return _keeper(state, host) or agents.agent_of(host, state=state)


def _keeper(state: LabState, host: LabHost) -> Process | None:
    return state.process(host.name) if host in state.plan().keepers else None


def _called(state: LabState, host: LabHost) -> str:
    return host.name if host in state.plan().keepers else f"the agent of {host.name}"


def stop(state: LabState, host: LabHost) -> str:
    """What came of it, in words; so do the others."""
    if (process := _process(state, host)) is None:
        return f"{_called(state, host)} does not run"
    processes.stop([process], grace=_GRACE_SECONDS)
    return f"{_called(state, host)} is stopped (it was process {process.pid})"


def kill(state: LabState, host: LabHost) -> str:
    if (process := _process(state, host)) is None:
        return f"{_called(state, host)} does not run"
    process.signal(signal.SIGKILL)
    processes.stop([process])  # until it is gone
    return f"{_called(state, host)} is killed (it was process {process.pid})"


def start(state: LabState, host: LabHost) -> str:
    plan = state.plan()
    if (process := _process(state, host)) is not None:
        return f"{_called(state, host)} runs already (process {process.pid})"
    if host in plan.site("vpc").keepers:
        ensemble.start_server(plan, host, state)
    elif host in plan.keepers:
        ensemble.start_proxy(plan, host, state)
    else:
        agents.start(plan, [host], state=state)
    begun = _process(state, host)
    if begun is None:
        why = processes.last_line(state.log(host.name))
        raise LabError(f"{_called(state, host)} ended at once: {why}")
    return f"{_called(state, host)} is started (process {begun.pid})"


ACTS: Final[dict[str, Callable[[LabState, LabHost], str]]] = {
    "stop": stop,
    "start": start,
    "kill": kill,
}
