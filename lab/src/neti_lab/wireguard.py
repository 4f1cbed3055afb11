"""A lab's encrypted road: wireguard-go on every host, where the kernel has no module of its own.

wireguard-go has its socket in the file system and not in the network namespace, so each host sees
a folder of its own where all hosts look for it. It ends with the lab, and its device with it.

Must never do: hide anything of the machine from a host but that one folder.
"""

import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from neti.dataplane.wireguard import DEVICE, netlink
from neti.dataplane.wireguard.uapi import SOCKETS, UapiWireGuard
from neti.errors import DataplaneError
from neti_lab import LabError, namespaces, processes
from neti_lab.processes import Process
from neti_lab.state import LabState
from neti_lab.topology import LabHost, LabPlan

_PROGRAM: Final = "wireguard-go"
_START_SECONDS: Final = 20.0
# "ip netns exec" has a mount namespace of its own, so nobody else sees this.
_IN_ITS_FOLDER: Final = f'mount --bind "$0" {SOCKETS} && exec "$@"'


def require() -> None:
    """LabError unless hosts of this machine can encrypt."""
    if not module_there() and shutil.which(_PROGRAM) is None:
        raise LabError(
            f"the kernel has no WireGuard, and there is no {_PROGRAM}\n→ apt-get install {_PROGRAM}"
        )


def module_there() -> bool:
    try:
        return netlink.module_there()
    except (DataplaneError, OSError):
        return False


def command_on(
    plan: LabPlan, host: LabHost, command: Sequence[str], *, state: LabState
) -> list[str]:
    """The command line that runs ``command`` on the host; its process is replaced."""
    namespace = plan.namespace(host.name)
    if not plan.encrypt:
        return namespaces.command_inside(namespace, command)
    return namespaces.command_inside(namespace, [*seeing(_folder(host, state)), *command])


def seeing(folder: Path) -> list[str]:
    """What stands before a command line that ``ip netns exec`` runs: it finds the socket of the
    wireguard-go whose folder this is, and no other."""
    SOCKETS.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return ["sh", "-c", _IN_ITS_FOLDER, str(folder)]


def start(plan: LabPlan, hosts: Iterable[LabHost], *, state: LabState) -> None:
    """Start it on each of these hosts, and wait until all answer. Nothing where there is a
    module: agents make its device."""
    if module_there():
        return
    started = []
    for host in hosts:
        log, folder = state.log(_name(host)), _folder(host, state)
        record = state.record(_name(host))
        started.append((launch(plan.namespace(host.name), folder, log=log, record=record), folder))
    for program, folder in started:
        wait(program, folder)


def launch(namespace: str, folder: Path, *, log: Path, record: Path) -> Process:
    """wireguard-go in a namespace, with its socket in this folder; returns before it answers."""
    line = namespaces.command_inside(namespace, [*seeing(folder), _PROGRAM, "-f", DEVICE])
    return processes.start(line, log=log, record=record)


def wait(program: Process, folder: Path) -> None:
    """Until it answers; LabError when it does not."""
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(folder):
        if not program.alive or time.monotonic() > deadline:
            raise LabError(f"{_PROGRAM} does not start: nothing answers in {folder}")
        time.sleep(0.05)


def program_of(host: LabHost, *, state: LabState) -> Process | None:
    """The host's wireguard-go, if it runs."""
    return state.process(_name(host))


def _answers(folder: Path) -> bool:
    try:
        return UapiWireGuard(folder / f"{DEVICE}.sock").device() is not None
    except DataplaneError:
        return False


def _folder(host: LabHost, state: LabState) -> Path:
    return state.host_folder(host.name) / "wireguard"


def _name(host: LabHost) -> str:
    return f"wireguard-{host.name}"
