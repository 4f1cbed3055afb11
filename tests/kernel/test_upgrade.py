"""Upgrade, downgrade, reboot, with real agents: an enforced host stays enforced and goes on.

The version to come is this one's source with more in its table and in its files.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from drills.fleet import Fleet, generated
from tests.support.agent_process import AgentProcess
from tests.support.yard import Yard, overlays, wait

import neti
from neti.dataplane import way_out
from neti_lab import namespaces

pytestmark = pytest.mark.kernel

# At the end of ruleset/policy.py: one more set and one more counter, and a chain that uses them.
_MORE_RULES = """
from dataclasses import replace

_structure_before = structure


def structure(settings: Settings, surroundings: Surroundings) -> Structure:
    made = _structure_before(settings, surroundings)
    chains = tuple(
        replace(each, rules=("jump newer", *each.rules)) if each.name == "judge" else each
        for each in made.chains
    )
    newer = Chain("newer", None, ('ip saddr @newer counter name "newer" return',))
    more = (("set newer", "type ipv4_addr"), ("counter newer", "packets 0 bytes 0"))
    return Structure((*more, *made.sets), (newer, *chains))
"""


@pytest.fixture
def newer(tmp_path: Path) -> list[str]:
    """What runs a command line as the version to come."""
    source = tmp_path / "newer"
    shutil.copytree(Path(neti.__file__).parent, source / "neti")
    _change(source / "neti/ruleset/policy.py", "\ndef structure(", "", _MORE_RULES)
    _change(source / "neti/state/records.py", "\nFORMAT: Final = ", "9")  # 91
    _change(source / "neti/state/folder.py", '"format": records.FORMAT', ', "newer": {"more": [1]}')
    return ["env", f"PYTHONPATH={source}"]


def _change(path: Path, after: str, more: str, end: str = "") -> None:
    text = path.read_text()
    assert text.count(after) == 1, f"{path.name} has another form now"
    path.write_text(text.replace(after, after + more) + end)


def _enforces(agent: AgentProcess) -> bool:
    held = namespaces.call_inside(agent.namespace, way_out.held)
    return held is not None and held.drops and not held.trial


def _inside(agent: AgentProcess, *words: str) -> "subprocess.CompletedProcess[str]":
    command = namespaces.command_inside(agent.namespace, words)
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _reboot(agent: AgentProcess, *around: str) -> str:
    """An empty kernel, and what the unit does before there is a network."""
    agent.end()
    _inside(agent, "nft", "flush ruleset")
    words = (*around, sys.executable, "-m", "neti", "restore", "-c", str(agent.config))
    done = _inside(agent, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _join(fleet: Fleet, agent: AgentProcess, number: int) -> None:
    overlay = str(fleet.join(generated(number)).overlay)
    wait(lambda: overlay in overlays(agent))


def test_an_enforced_host_goes_up_and_down_and_up_again(yard: Yard, newer: list[str]) -> None:
    agent = yard.agent(1)
    yard.start(agent)
    fleet = Fleet(yard.registry())
    _join(fleet, agent, 1)
    agent.ask("enforce", seconds=300, wait=True)
    agent.ask("confirm")
    assert _enforces(agent)
    # Up, live: in step with the fleet, never open, and its own table.
    agent.end()
    yard.start(agent, around=newer)
    _join(fleet, agent, 2)
    assert "set newer" in _inside(agent, "nft", "list table inet neti").stdout
    assert agent.ask("status")["problems"] == []
    assert _enforces(agent)
    # Down, over a reboot: files of a later format, with more in them, and none from before.
    (agent.state / "members.jsonl.old").unlink(missing_ok=True)
    assert _reboot(agent) == "restored: 3 members, enforced\n"
    yard.start(agent)
    _join(fleet, agent, 3)
    assert agent.ask("status")["stage"] == "enforced"
    # And up again, over a reboot.
    assert _reboot(agent, *newer) == "restored: 4 members, enforced\n"
    yard.start(agent, around=newer)
    assert agent.ask("status")["stage"] == "enforced"
    assert _enforces(agent)
    agent.ask("relax")
    assert not _enforces(agent)
