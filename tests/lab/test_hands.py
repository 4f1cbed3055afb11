"""``neti lab list``, ``stop``, ``start``, ``kill`` and ``shell``, on a lab with real agents."""

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.front import run_in_front

from neti_lab import agents, lifecycle
from neti_lab.state import LabState, is_held

Neti = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def up(lab: LabState, neti_lab: Neti) -> LabState:
    built = neti_lab("up", "--hosts", "1")
    assert built.returncode == 0, built.stderr
    return lab


def _listed(lab: LabState, lab_command: Callable[..., list[str]]) -> dict[str, Any]:
    line = [word for word in lab_command("list", "--json") if word not in ("--name", lab.name)]
    (found,) = (one for one in json.loads(run_in_front(line, 60).stdout) if one["name"] == lab.name)
    return dict(found)


def test_agents_are_stopped_killed_and_started(
    up: LabState, neti_lab: Neti, lab_command: Callable[..., list[str]]
) -> None:
    host, other = up.plan().hosts

    def runs() -> list[bool]:
        return [agents.agent_of(each, state=up) is not None for each in (host, other)]

    def said(*words: str) -> str:
        done = neti_lab(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert runs() == [True, True]
    assert "is killed" in (text := said("kill", host.name))
    assert f"'neti lab start {host.name} --name {up.name}' starts it again" in text
    assert runs() == [False, True]
    assert "does not run" in said("stop", host.name)
    assert "is started" in said("start", host.name)
    assert "runs already" in said("start", host.name)
    assert runs() == [True, True]
    assert said("stop", host.name, other.name).count("is stopped") == 2
    assert runs() == [False, False]
    found = _listed(up, lab_command)
    assert (found["up"], found["hosts"], found["agents"]) == (True, 2, 0)
    refused = neti_lab("kill", host.name, "nobody")
    assert refused.returncode == 1
    assert "no process is called nobody" in refused.stderr


def test_a_shell_is_the_hosts_own(up: LabState, lab_command: Callable[..., list[str]]) -> None:
    host = up.plan().hosts[0]
    line = lab_command("shell", host.name)
    done = subprocess.run(
        line, input="echo $NETI_CONFIG; ip -br addr", capture_output=True, text=True, check=False
    )
    assert str(up.config(host.name)) in done.stdout
    assert str(host.private) in done.stdout


def test_a_lab_in_use_is_not_called_left_behind(
    up: LabState, lab_command: Callable[..., list[str]]
) -> None:
    """Whoever is told so would take it down under somebody's hands."""
    assert not is_held(up)
    with lifecycle.commanding(up):
        assert is_held(up)
        assert _listed(up, lab_command)["held"]
    assert not is_held(up)
