"""What operators do to hosts, and what happens to them, is in ``neti fleet`` soon, by itself."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import pytest
from tests.support.agent_process import AgentProcess
from tests.support.yard import Yard, wait

from neti_lab import namespaces

pytestmark = pytest.mark.kernel

_PATIENCE: Final = 120.0  # seconds; the count after the first one is more than eight minutes away
_CALL: Final = """
import socket
from contextlib import suppress
with socket.socket() as calling, suppress(OSError):
    calling.settimeout(0.1)
    calling.connect(("10.0.0.2", 5432))
"""


def _neti(agent: AgentProcess, *words: str) -> str:
    command = [sys.executable, "-m", "neti", *words, "-c", str(agent.config)]
    inside = namespaces.command_inside(agent.namespace, command)
    done = subprocess.run(inside, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def row(fleet: dict[str, Any], host_id: str) -> dict[str, Any]:
    rows = [*fleet["members"], *fleet["away"]]
    return next((one for one in rows if one["id"] == host_id), {})


def test_each_of_five_events_is_in_the_listing_soon(yard: Yard) -> None:
    killed, down, here = yard.agent(1), yard.agent(2), yard.agent(4)
    relaxed = yard.agent(3, reject_all=True, trial_seconds=5)
    yard.start(killed, down, relaxed, here)
    wait(lambda: relaxed.ask("status")["stage"] == "enforced")
    wait(lambda: row(json.loads(_neti(here, "fleet", "--json")), "h4").get("left") == [], 120.0)

    killed.kill()
    _neti(down, "down")
    _neti(relaxed, "relax")
    here.config.write_text(here.config.read_text() + "labels: {tier: db}\n")
    words = namespaces.command_inside(here.namespace, [sys.executable, "-c", _CALL])
    subprocess.run(words, check=True, timeout=30)
    began = time.monotonic()

    told: dict[str, Callable[[dict[str, Any]], object]] = {
        "a killed agent": lambda fleet: row(fleet, "h1").get("state") == "lost",
        "down": lambda fleet: row(fleet, "h2").get("down"),
        "relaxed": lambda fleet: row(fleet, "h3").get("relaxed"),
        "a file that is not read": lambda fleet: row(fleet, "h4").get("config_unread"),
        "a call by a real address": lambda fleet: (
            [(left["to"], left["port"]) for left in row(fleet, "h4").get("left") or ()]
            == [("h2", "5432/tcp")]
        ),
    }
    seen: dict[str, float] = {}
    while told.keys() - seen.keys() and time.monotonic() - began < _PATIENCE:
        fleet = json.loads(_neti(here, "fleet", "--json"))
        after = time.monotonic() - began
        seen |= {what: after for what, true in told.items() if what not in seen and true(fleet)}
        time.sleep(0.5)
    assert seen.keys() == told.keys(), seen
    print({what: round(after, 1) for what, after in seen.items()})
