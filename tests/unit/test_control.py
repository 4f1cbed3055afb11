"""The socket by which commands talk to the agent."""

import subprocess
import sys
import time
from pathlib import Path

from neti.agent import control
from neti.agent.control import AgentUnreachable

# An agent that stops at once when it is asked to leave, while the thread that answers is slow.
STOPS = """
import queue, sys, time
from pathlib import Path
from neti.agent.control import ControlServer, Request
wait = Request.wait
Request.wait = lambda self: (wait(self), time.sleep(0.3))[0]
told = queue.SimpleQueue()
server = ControlServer(Path(sys.argv[1]), told.put)
server.start()
told.get().succeed("left")
server.close()
"""


def test_who_asks_the_agent_to_stop_is_answered(tmp_path: Path) -> None:
    """The program does not end before its last answer is given."""
    agent = subprocess.Popen([sys.executable, "-c", STOPS, str(tmp_path)])
    deadline = time.monotonic() + 20
    while True:
        try:
            assert control.call(tmp_path, "leave") == "left"
            break
        except AgentUnreachable as error:
            if "no agent is running" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    assert agent.wait(20) == 0
