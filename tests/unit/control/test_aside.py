"""What a command asks its agent beside its work: once, briefly, and never unsaid."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from tests.unit.cli.test_asking import CONFIG
from tests.unit.oneshot.test_registered import settings

from neti.cli import asking, cli
from neti.control import aside, client
from neti.control.aside import ASIDES, Asides
from neti.control.client import AgentSilent, AgentUnreachable
from neti.control.protocol import SOCKET_NAME
from neti.errors import RegistryUnavailable
from neti.host import process
from neti.oneshot import registered, seen
from neti.oneshot.watched import Watched
from neti.registry.memory import MemoryRegistry, MemoryServer

HANGS = "the agent hangs (process 812): it did not answer in 2 s\n→ systemctl restart neti"
_LISTEN = """
import socket, sys, time
listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listening.bind(sys.argv[1])
listening.listen(16)
print("listens", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _as_if_new() -> Iterator[None]:
    ASIDES.forget()
    yield
    ASIDES.forget()


@pytest.fixture(name="hung")
def _hung(tmp_path: Path) -> Iterator[Path]:
    """The state folder of an agent that accepts and never answers."""
    folder = tmp_path / "state"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(folder / SOCKET_NAME))
        listening.listen(16)
        yield folder


def silent(*_: object, **__: object) -> Any:
    raise AgentSilent(HANGS)


def test_an_agent_that_is_stopped_is_named_with_its_process_and_what_wakes_it(
    tmp_path: Path,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _LISTEN, str(tmp_path / SOCKET_NAME)], stdout=subprocess.PIPE
    ) as agent:
        try:
            assert agent.stdout is not None
            assert agent.stdout.readline() == b"listens\n"
            agent.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, agent.pid, os.WSTOPPED | os.WNOWAIT)
            with pytest.raises(AgentSilent) as told:
                client.call(tmp_path, "status", within=0.05)
        finally:
            agent.kill()
    said = str(told.value).splitlines()
    assert said[0].startswith(f"the agent hangs (process {agent.pid}, stopped by a signal): it did")
    assert said[1] == f"→ kill -CONT {agent.pid} lets it go on"
    assert "→ systemctl restart neti" in said


def test_a_process_that_is_gone_has_no_state() -> None:
    assert process.state_of(os.getpid()) in ("R", "S")
    assert process.state_of(2**22 + 1) == ""
    assert process.in_words(7, "") == process.in_words(7, "S") == "process 7"


def test_an_agent_that_hangs_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = [0.0], list[str]()

    def call(_: Path, command: str, *, within: float) -> str:
        asked.append(f"{command} {within:g}")
        if now[0] < 100:
            raise AgentSilent(HANGS)
        return "well"

    monkeypatch.setattr(client, "call", call)
    asides, folder = Asides(lambda: now[0]), Path("state")
    for command in ("status", "members"):
        with pytest.raises(AgentSilent):
            asides.ask(folder, command)
    assert asked == ["status 2"]
    assert asides.in_vain() == asides.in_vain(folder) == HANGS
    assert asides.in_vain(Path("another")) is None
    now[0] = 100.0
    assert asides.ask(folder, "members") == "well"
    assert asides.in_vain() is None


def test_that_it_is_not_running_is_no_reason_to_speak(tmp_path: Path) -> None:
    """An operator's machine has none."""
    asides = Asides()
    with pytest.raises(AgentUnreachable):
        asides.ask(tmp_path, "status")
    assert asides.in_vain() is None


def test_a_command_that_waited_for_the_agent_does_not_blame_the_registry(
    hung: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_FIRST_WORD", 0.02)
    monkeypatch.setattr(aside, "PATIENCE", 0.5)
    server = MemoryServer()
    monkeypatch.setattr(
        "neti.cli.common.registry_of", lambda _: nullcontext(MemoryRegistry(server))
    )
    config = tmp_path / "neti.yml"
    config.write_text(CONFIG.format(folder=tmp_path))
    done = CliRunner().invoke(cli, ["fleet", "-c", str(config)])
    assert done.exit_code == 0, done.output
    assert "the registry has not answered" not in done.stderr
    assert done.stderr.count(f"the agent hangs (process {os.getpid()}") == 1
    assert "→ systemctl restart neti" in done.stderr
    assert (hung / SOCKET_NAME).exists()


def test_what_ends_a_command_is_not_said_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ASIDES, "in_vain", lambda: HANGS)
    monkeypatch.setattr(client, "call", silent)
    config = tmp_path / "neti.yml"
    config.write_text(CONFIG.format(folder=tmp_path))
    done = CliRunner().invoke(cli, ["confirm", "-c", str(config)])
    assert done.stderr.count("the agent hangs") == 1


def test_where_neither_answers_both_are_named(tmp_path: Path) -> None:
    def away(_: object) -> Any:
        raise RegistryUnavailable("no server answers")

    for asked in (seen.seen, registered.leases):
        with pytest.raises(RegistryUnavailable) as told:
            asked(settings(tmp_path), away, silent)
        assert str(told.value) == f"no server answers\nand {HANGS}"


def test_who_watches_the_fleet_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the agent nobody is lost, and that is no good news."""
    server = MemoryServer()
    watched = Watched(
        settings(tmp_path), lambda _: nullcontext(MemoryRegistry(server)), lambda *_: []
    )
    monkeypatch.setattr(aside, "client", SimpleNamespace(call=silent))
    needs = {one.code: one for one in watched.look().needs}
    assert needs["own_agent"].what.startswith("on this machine the agent hangs (process 812)")
    assert needs["own_agent"].then == ("systemctl restart neti",)
