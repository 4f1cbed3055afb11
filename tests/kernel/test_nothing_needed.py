"""``neti relax`` and ``neti down`` where something else is broken, with real processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.kernel.test_agent_process import Neti, agent, config, enforced, line, neti, ruleset, wait
from tests.support.netns import Net

from neti.control import client

pytestmark = pytest.mark.kernel
__all__ = ["agent", "config", "neti"]


@pytest.fixture
def state(agent: "subprocess.Popen[bytes]", tmp_path: Path, net: Net) -> Path:
    """Of an agent that enforces."""
    folder = tmp_path / "state"
    wait((folder / "members.jsonl").exists)
    wait(lambda: bool(client.call(folder, "status")["registry"]["fresh"]))
    client.call(folder, "enforce", seconds=300, wait=True)
    client.call(folder, "confirm")
    assert enforced(net)
    return folder


def tear(folder: Path) -> None:
    for path in folder.glob("*.json*"):
        path.write_bytes(b"\0" * 100)


def pipes(folder: Path) -> None:
    for name in ("neti.yml.good", "stage.json", "self.json", "members.jsonl", "conntrack.json"):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)


def links(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()
            path.symlink_to("/etc/passwd")


def huge(folder: Path) -> None:
    for name in ("neti.yml.good", "stage.json", "self.json", "relaxed", "down"):
        if name not in ("relaxed", "down"):
            os.truncate(folder / name, 1 << 34)


@pytest.mark.parametrize("command", ["relax", "down"])
@pytest.mark.parametrize("spoil", [tear, pipes, links, huge])
def test_whatever_the_state_folder_holds(
    net: Net,
    neti: Neti,
    state: Path,
    agent: "subprocess.Popen[bytes]",
    config: Path,
    spoil: Callable[[Path], None],
    command: str,
) -> None:
    agent.kill()
    agent.wait()
    spoil(state)
    config.write_text("nonsense: [\n" + f"table_files_path: {state}\n")
    done = neti(command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("shadow: " if command == "relax" else "down: ")
    assert (state / ("relaxed" if command == "relax" else "down")).exists()
    assert not held(net)


def held(net: Net) -> bool:
    return "map enforce" in ruleset(net) and enforced(net)


@pytest.mark.parametrize("command", ["relax", "down"])
@pytest.mark.parametrize("hung", [True, False])
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_disk_that_takes_nothing(
    net: Net,
    config: Path,
    state: Path,
    agent: "subprocess.Popen[bytes]",
    tmp_path: Path,
    how: str,
    hung: bool,
    command: str,
) -> None:
    """The kernel first; it is said loudly; and an agent that wakes or starts undoes nothing."""
    agent.send_signal(signal.SIGSTOP if hung else signal.SIGKILL)
    if not hung:
        agent.wait()
    with broken_disk(state, how):
        done = subprocess.run(
            line(net, config, command), capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "NOT ON DISK" in done.stderr
        assert done.stdout.startswith("shadow: " if command == "relax" else "down: ")
        assert not held(net)
        again = agent
        if hung:
            agent.send_signal(signal.SIGCONT)
        else:
            with (tmp_path / "again").open("wb") as log:
                again = subprocess.Popen(line(net, config, "agent"), stderr=log)
        try:
            _stays(net)
        finally:
            again.kill()
            again.wait()


def _stays(net: Net) -> None:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        assert not held(net)
        time.sleep(0.2)


@contextmanager
def broken_disk(state: Path, how: str) -> Iterator[None]:
    """Over the folder itself, in this machine's mount namespace, and taken away again."""
    copy = state.with_name("copy")
    shutil.copytree(state, copy, ignore=lambda *_: ["agent.sock"], symlinks=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=64", "tmpfs", str(state)]
    subprocess.run(mount, check=True)
    try:
        for path in copy.iterdir():
            shutil.copy2(path, state / path.name)
        if how == "full":
            with suppress(OSError), (state / "filler").open("wb", buffering=0) as filler:
                while True:
                    filler.write(b"x" * 4096)
            with suppress(OSError):
                for number in range(1000):
                    (state / f"inode{number}").touch()
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(state)], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)


BROKEN = """
import sys
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"pydantic", "pydantic_core", "yaml", "kazoo", "rich"}:
            raise ImportError(name)
        if name in {"neti.dataplane.libnftables", "neti.dataplane.compiler", "neti.registry"}:
            raise ImportError(name)
sys.meta_path.insert(0, Nowhere())
from neti.cli import main
main()
"""


@pytest.mark.parametrize("command", ["relax", "down"])
def test_no_library_and_little_memory(
    net: Net, config: Path, state: Path, agent: "subprocess.Popen[bytes]", command: str
) -> None:
    agent.kill()
    agent.wait()
    inside = ["ip", "netns", "exec", net.host, "prlimit", "--as=300000000"]
    words = [*inside, sys.executable, "-c", BROKEN, command, "-c", str(config)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not held(net)


def test_a_configuration_that_is_gone_or_a_pipe(
    net: Net, state: Path, agent: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    """The folder is not known then: the kernel is relaxed, and that it may not last is said."""
    agent.kill()
    agent.wait()
    os.mkfifo(tmp_path / "pipe.yml")
    for name in ("none.yml", "pipe.yml"):
        words = line(net, tmp_path / name, "relax" if name == "none.yml" else "down")
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
        assert not held(net)
        assert done.returncode == 1 or Path("/var/lib/neti").exists()
