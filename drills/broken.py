"""What may be broken on a host whose operator wants out: its agent, disk, files, library, memory.

Each way is brought about on a host whose state folder is a small disk of its own (``own_disk``),
and ended with it. Nothing here looks at what the commands do. Must never do: touch a file that is
not below the drill's own folder.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tests.support import foreign_set

from drills.drill import DrillError
from drills.host import FieldHost

Agent = Literal["running", "hung", "gone"]
Way = Callable[[FieldHost], AbstractContextManager[None]]

_DOCUMENTS: Final = ("neti.yml.good", "stage.json", "self.json", "members.jsonl")
_MEMORY: Final = 300_000_000  # bytes of address space: Python and little more
# Only for the command that is run: a mount namespace of its own.
_MASKED: Final = ("unshare", "-m", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"')


@dataclass(frozen=True, slots=True)
class Broken:
    """``around``: a command that runs the command's line. ``saved``: whether the word can be
    written. ``started``: an agent is started while it is still broken, and undoes nothing.
    ``again``: takes long, and says little that others do not say."""

    what: str
    agent: Agent = "gone"
    ways: tuple[Way, ...] = ()
    around: tuple[str, ...] = ()
    saved: bool = True
    started: bool = False
    again: bool = False


def all_kinds(folder: Path) -> list[Broken]:
    """``folder``: for what they need."""
    library = _library()
    torn = folder / "torn.so"
    torn.write_bytes(library.read_bytes()[:8192])  # whoever maps it dies by SIGBUS
    missing = (*_MASKED, "/dev/null", str(library))
    crashing = (*_MASKED, str(torn), str(library))
    # The configuration says where the state is; without it, nobody looks in this machine's own.
    elsewhere = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /var/lib && exec "$@"', "sh")
    return [
        Broken("agent hung", "hung"),
        Broken(
            "agent hung, disk full, files torn, configuration broken, no library, foreign set",
            "hung",
            (torn_files, full, broken_configuration, foreign),
            around=missing,
            saved=False,
        ),
        Broken("agent hung, disk read-only", "hung", (read_only,), saved=False, again=True),
        Broken("foreign set of a newer nft, agent running", "running", (foreign,)),
        Broken("disk full, agent running", "running", (full,), saved=False),
        Broken("agent gone"),
        Broken("disk full", ways=(full,), saved=False, started=True),
        Broken("disk read-only", ways=(read_only,), saved=False, started=True),
        Broken("configuration broken", ways=(broken_configuration,)),
        Broken("configuration gone", ways=(no_configuration,), around=elsewhere, saved=False),
        Broken("configuration a pipe", ways=(piped_configuration,), around=elsewhere, saved=False),
        Broken("libnftables missing", around=missing),
        Broken("libnftables crashing", around=crashing),
        Broken("foreign set of a newer nft", ways=(foreign,)),
        Broken("state files torn", ways=(torn_files, broken_configuration)),
        Broken("state files are pipes", ways=(pipes, broken_configuration)),
        Broken("state files lead elsewhere", ways=(links, broken_configuration)),
        Broken("state files without end", ways=(huge, broken_configuration)),
        Broken("hardly any memory", around=("prlimit", f"--as={_MEMORY}")),
    ]


def _library() -> Path:
    for pattern in ("lib/*/libnftables.so.1", "lib64/libnftables.so.1", "lib/libnftables.so.1"):
        for path in Path("/usr").glob(pattern):
            return path.resolve()
    raise DrillError("libnftables.so.1 is not below /usr")


@contextmanager
def own_disk(host: FieldHost) -> Iterator[None]:
    """A small one under its state folder, which is empty afterwards."""
    words = ["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=64,mode=700", "tmpfs"]
    subprocess.run([*words, str(host.state)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(host.state)], check=True)


@contextmanager
def all_of(ways: tuple[Way, ...], host: FieldHost) -> Iterator[None]:
    with ExitStack() as stack:
        for way in ways:
            stack.enter_context(way(host))
        try:
            yield
        finally:
            stack.close()  # without the error: each way is undone all the same


@contextmanager
def full(host: FieldHost) -> Iterator[None]:
    """Neither a byte nor a file more."""
    fillers = [host.state / "filler"]
    with suppress(OSError), fillers[0].open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)
    with suppress(OSError):
        while True:
            fillers.append(host.state / f"filler{len(fillers)}")
            fillers[-1].touch()
    yield
    for path in fillers:
        path.unlink(missing_ok=True)


@contextmanager
def read_only(host: FieldHost) -> Iterator[None]:
    folder = str(host.state)
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def broken_configuration(host: FieldHost) -> Iterator[None]:
    """What can still be read of it is where the state is."""
    good = host.config.read_bytes()
    host.config.write_text(f"nonsense: [\ntable_files_path: {host.state}\n")
    yield
    host.config.write_bytes(good)


@contextmanager
def no_configuration(host: FieldHost) -> Iterator[None]:
    good = host.config.read_bytes()
    host.config.unlink()
    yield
    host.config.write_bytes(good)


@contextmanager
def piped_configuration(host: FieldHost) -> Iterator[None]:
    good = host.config.read_bytes()
    host.config.unlink()
    os.mkfifo(host.config)
    yield
    host.config.unlink()
    host.config.write_bytes(good)


@contextmanager
def foreign(host: FieldHost) -> Iterator[None]:
    """libnftables 1.0.6 dies of it whenever it lists anything."""
    foreign_set.make_unreadable_set(host.namespace)
    yield
    foreign_set.remove(host.namespace)


@contextmanager
def torn_files(host: FieldHost) -> Iterator[None]:
    for path in host.state.glob("*.json*"):
        path.write_bytes(b"\0" * 100)
    yield


@contextmanager
def pipes(host: FieldHost) -> Iterator[None]:
    for name in _DOCUMENTS:
        (host.state / name).unlink(missing_ok=True)
        os.mkfifo(host.state / name)
    yield


@contextmanager
def links(host: FieldHost) -> Iterator[None]:
    elsewhere = host.config.with_name("elsewhere")
    elsewhere.write_text("another's")
    for path in host.state.iterdir():
        if path.is_file():
            path.unlink()
            path.symlink_to(elsewhere)
    yield
    if elsewhere.read_text() != "another's":
        raise DrillError(f"what {host.state} leads to was written over")


@contextmanager
def huge(host: FieldHost) -> Iterator[None]:
    for name in _DOCUMENTS:
        (host.state / name).touch()
        os.truncate(host.state / name, 1 << 34)
    yield


def keep(state: Path, kept: Path) -> None:
    """A copy of the state as an agent left it."""
    shutil.copytree(state, kept, ignore=lambda *_: ["agent.sock"])


def put_back(kept: Path, state: Path) -> None:
    for path in state.iterdir():
        path.unlink()
    for path in kept.iterdir():
        shutil.copy2(path, state / path.name)
