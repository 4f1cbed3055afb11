"""A reload that is asked for while the agent starts."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from neti_lab.processes import Process, find


def _heeds(agent: Process) -> bool:
    deadline = time.monotonic() + 20
    while agent.alive and time.monotonic() < deadline:
        if agent.catches(signal.SIGHUP):
            return True
        time.sleep(0.005)
    return False


def test_a_starting_agent_does_not_end_when_it_is_told_to_reload(tmp_path: Path) -> None:
    """Not before it reads its configuration either, which here is not there: exit code 2."""
    command = [sys.executable, "-m", "neti", "agent", "-c", str(tmp_path / "neti.yml")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as agent:
        started = find(agent.pid)
        assert started is not None
        assert _heeds(started)
        agent.send_signal(signal.SIGHUP)
        assert agent.wait(20) == 2


NOTED = """
import os, signal
from neti.agent import hangup
from neti.agent.told import Reload, install_signals

class Agent:
    told = []
    def tell(self, what):
        self.told.append(what)

hangup.heed()
os.kill(os.getpid(), signal.SIGHUP)
install_signals(Agent().tell)
assert Agent.told == [Reload()], Agent.told
os.kill(os.getpid(), signal.SIGHUP)
assert Agent.told == [Reload(), Reload()], Agent.told
"""


def test_it_reloads_once_it_can() -> None:
    """What it has read may be older than the file."""
    command = [sys.executable, "-c", NOTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
