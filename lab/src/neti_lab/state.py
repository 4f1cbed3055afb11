"""The folder of one lab, ``/run/neti-lab/NAME``: its plan, processes, configurations and logs.

What stands here is a hint for teardown, never its only source: the namespaces are looked for too.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neti_lab import LabError, processes
from neti_lab.processes import Process
from neti_lab.topology import LabPlan, from_document, lab_command, namespace_prefix, to_document

LABS: Final = Path("/run/neti-lab")
# What another user than root reads, because a dashboard goes on as one.
_DASHBOARDS: Final = Path("/run/neti-lab-dashboards")


@dataclass(frozen=True, slots=True)
class LabState:
    """Paths below the folder, and the few things that are read from there and written there."""

    name: str

    @property
    def folder(self) -> Path:
        return LABS / self.name

    @property
    def control(self) -> Path:
        """The socket on which the lab's services take orders."""
        return self.folder / "control"

    @property
    def registry_file(self) -> Path:
        return self.folder / "registry" / "registry.db"

    @property
    def ca(self) -> Path:
        """Certificates and keys, where the registry speaks TLS."""
        return self.folder / "ca"

    @property
    def operator_config(self) -> Path:
        """A neti.yml with an operator's certificate, where the registry knows operators."""
        return self.folder / "operator.yml"

    @property
    def dashboard_folder(self) -> Path:
        return _DASHBOARDS / self.name

    @property
    def dashboard_link(self) -> Path:
        """What it says: a link with a token in it."""
        return self.folder / "dashboard"

    def dashboard(self) -> str | None:
        """The link to the one that runs; None: none does."""
        if self.process("dashboard") is None:
            return None
        try:
            lines = self.dashboard_link.read_text().splitlines()
        except OSError:
            return None
        return next((line.strip() for line in lines if "#token=" in line), None)

    def host_folder(self, host: str) -> Path:
        return self.folder / "hosts" / host

    def config(self, host: str) -> Path:
        return self.host_folder(host) / "neti.yml"

    def log(self, process: str) -> Path:
        return self.folder / "logs" / f"{process}.log"

    def record(self, process: str) -> Path:
        return self.folder / "processes" / process

    def process(self, name: str) -> Process | None:
        return processes.recall(self.record(name))

    def recorded(self) -> tuple[Process, ...]:
        """Every process that was ever recorded here and is alive."""
        folder = self.folder / "processes"
        records = sorted(folder.iterdir()) if folder.is_dir() else []
        return tuple(found for record in records if (found := processes.recall(record)))

    @property
    def exists(self) -> bool:
        return self.folder.is_dir()

    def create(self, plan: LabPlan) -> None:
        _make_labs()
        self.folder.mkdir(mode=0o700)
        self.registry_file.parent.mkdir(mode=0o700)
        self.write_plan(plan)

    def write_plan(self, plan: LabPlan) -> None:
        scratch = self.folder / "plan.new"
        scratch.write_text(json.dumps(to_document(plan)))
        scratch.replace(self.folder / "plan.json")

    @property
    def complete(self) -> bool:
        """Whether whoever built the lab came to the end of it."""
        return (self.folder / "complete").exists()

    def declare_complete(self) -> None:
        (self.folder / "complete").touch()

    def plan(self) -> LabPlan:
        """The plan of the lab that is up; LabError when there is none."""
        try:
            return from_document(json.loads((self.folder / "plan.json").read_text()))
        except FileNotFoundError:
            raise LabError(
                f"the lab {self.name!r} is not up\n→ {lab_command(self.name, 'up')}"
            ) from None
        except PermissionError:
            raise LabError("only root can read the lab's folder\n→ run it with sudo") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LabError(
                f"the plan of lab {self.name!r} cannot be read: {error}\n"
                f"→ '{lab_command(self.name, 'down')}' removes what is left of it"
            ) from error

    def remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            # The plan goes first: without it the lab is not up, whatever else is still there.
            (self.folder / "plan.json").unlink()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.dashboard_folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            _DASHBOARDS.rmdir()  # of no other lab anything is there


def open_state(name: str) -> LabState:
    """The state of the lab of this name, be it up or not."""
    namespace_prefix(name)  # refuses a name that would lead out of the folder
    return LabState(name)


@contextlib.contextmanager
def exclusive(state: LabState) -> Iterator[None]:
    """Only one command at a time may build, run or take down a lab.

    The lock ends with the process that holds it, however that one ends.
    """
    _make_labs()
    path = LABS / f"{state.name}.lock"
    while (descriptor := _locked(path, state.name)) is None:
        pass
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def is_held(state: LabState) -> bool:
    """Whether some command builds, runs or takes down the lab at this moment."""
    try:
        descriptor = os.open(LABS / f"{state.name}.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _make_labs() -> None:
    """The folder of all labs is root's alone, whoever made it before: keys lie below it.

    Not by ``mkdir(parents=True)`` of a lab's own folder, which makes parents that all can read.
    """
    LABS.mkdir(parents=True, exist_ok=True, mode=0o700)
    LABS.chmod(0o700)


def _locked(path: Path, lab: str) -> int | None:
    """The locked file; None when its last holder removed it at that very moment."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode().strip() or "unknown"
        os.close(descriptor)
        raise LabError(
            f"another command (process {holder}) is working on the lab {lab!r}\n"
            "→ wait for it, or build another lab with --name NAME"
        ) from None
    except FileNotFoundError:
        pass
    os.close(descriptor)
    return None
