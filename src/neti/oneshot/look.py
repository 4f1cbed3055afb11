"""``neti check``: asks the agent, looks into disk and kernel itself, and has it judged.

Must never do: take the agent's word for what the kernel does, or change anything.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from neti import __version__
from neti.clock import SystemClock, boot_id
from neti.control.client import AgentForbidden, AgentSilent, AgentUnreachable
from neti.dataplane.conntrack_limit import read_fill
from neti.dataplane.wireguard import road
from neti.errors import ConfigError, NetiError
from neti.host.machine import switched_off
from neti.identity.machine import fingerprint
from neti.model.settings import Settings
from neti.monitoring.check import judge
from neti.monitoring.kernel_look import look
from neti.monitoring.situation import KernelLook, Limits, Situation, Stage, Verdict
from neti.monitoring.status import Status
from neti.oneshot.down import is_down
from neti.ruleset.objects import NO_TABLE
from neti.stage.taking_up import take_up
from neti.state.folder import StateFolder
from neti.state.last_good import load_or_last_good
from neti.state.location import in_force, is_guessed, state_folder
from neti.state.stage import stage_found

# A difference between agent and kernel is repaired within two seconds, and then it is no alarm.
_LOOKS: Final = 5
_BETWEEN_LOOKS: Final = 0.6


def verdict(
    config: Path, limits: Limits, expect: Stage | None, ask: Callable[[Path], Status]
) -> Verdict:
    """``ask``: for the status of the agent whose state is in this folder. A finding that
    may be over in a moment is looked at again."""
    for looks_left in reversed(range(_LOOKS)):
        found = judge(replace(_look(config, ask), expected=expect), limits)
        if not found.passing or not looks_left:
            return found
        time.sleep(_BETWEEN_LOOKS)
    raise AssertionError("unreachable")


def _look(config: Path, ask: Callable[[Path], Status]) -> Situation:
    blind: list[str] = []
    settings: Settings | None = None
    fault, told, same = None, None, in_force(config)
    if same is not None:
        folder, told = same, _ask(same, ask, blind)
    if told is None or not _suffices(told[0]):
        try:
            settings, refused = load_or_last_good(config)
            folder = settings.table_files_path
        except ConfigError as error:
            refused, folder = error, state_folder(config)
        fault = _config_fault(config, refused, blind) if refused is not None else None
        if settings is None and (is_guessed(config) or not folder.is_dir()):
            return Situation(config_fault=fault, blind=tuple(blind))  # nothing says where to look
    # Even in a folder that is refused now, such as one that everyone can write to: the agent that
    # runs there knows this host, and whoever else answers cannot take away that the folder is bad.
    status, agent, says = told if told is not None else _ask(folder, ask, blind)
    kernel, broken = _kernel(folder, blind), _road(settings, status, blind)
    return Situation(
        config_fault=fault,
        status=status,
        agent=agent,
        agent_says=says,
        switched_off=_switched_off(folder),
        kernel=kernel,
        blind=tuple(dict.fromkeys(blind)),
        conntrack=_conntrack_percent(),
        wished=_wished(settings) if status is None and settings is not None else None,
        road=broken,
    )


def _suffices(status: Status | None) -> bool:
    """Whether the agent that has this very file in force tells all that settings are asked for."""
    return status is not None and status.version == __version__ and status.encryption is None


def _wished(settings: Settings) -> bool | None:
    """Whether this host is to be enforced, by disk and configuration. None: that cannot be read."""
    clock = SystemClock()
    try:
        folder = StateFolder(settings.table_files_path, make=False)
        taken = take_up(
            stage_found(folder, folder.load(fingerprint()), NO_TABLE),
            reject_all=settings.reject_all,
            boot=boot_id(),
            monotonic=clock.monotonic(),
            now=clock.wall(),
        )
        return taken.record.wished
    except (NetiError, OSError):
        return None


def _config_fault(config: Path, refused: ConfigError, blind: list[str]) -> str | None:
    """None: it could not be read, which ``blind`` says then."""
    if isinstance(refused.__context__, PermissionError):
        blind.append(f"{config} may not be read: run this as root")
        return None
    return str(refused).replace("\n", "; ")


def _ask(
    folder: Path, ask: Callable[[Path], Status], blind: list[str]
) -> tuple[Status | None, Literal["answers", "absent", "silent"], str]:
    try:
        status = ask(folder)
    except AgentForbidden as error:
        blind.append(_sentence(error))
    except AgentSilent as error:
        return None, "silent", _sentence(error)
    except AgentUnreachable as error:
        return None, "absent", _sentence(error)
    except NetiError as error:
        blind.append(f"the agent does not tell its status: {_sentence(error)}")
    else:
        return status, "answers", ""
    return None, "answers", ""


def _sentence(error: NetiError) -> str:
    """Without the next steps: a plugin has one line."""
    return str(error).partition("\n")[0]


def _switched_off(folder: Path) -> str | None:
    down = is_down(folder)
    return switched_off() or ("neti down was called; neti up ends it" if down else None)


def _kernel(folder: Path, blind: list[str]) -> KernelLook | None:
    try:
        return look(folder)
    except NetiError as error:
        blind.append(f"the kernel cannot be looked at: {error}")
        return None


def _road(settings: Settings | None, status: Status | None, blind: list[str]) -> tuple[str, ...]:
    """Asked after the agent, because only it knows which MTU the device should have."""
    told = status.encryption if status is not None else None
    if told is None or told.implementation is None or told.mtu is None or settings is None:
        return ()
    try:
        return road.read().faults(settings.overlay_subnet, told.mtu)
    except NetiError as error:
        blind.append(f"the encrypted road cannot be looked at: {error}")
        return ()


def _conntrack_percent() -> float | None:
    fill = read_fill()
    return fill.percent if fill is not None else None
