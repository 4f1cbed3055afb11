"""Hosts are taken out of the fleet once nobody calls them, with real agents and connections."""

import json
import subprocess
import time
from collections.abc import Callable
from functools import partial

import pytest

from neti_lab import agents, lifecycle, namespaces
from neti_lab.probe import Reply, ask, connect
from neti_lab.state import LabState
from neti_lab.topology import LabHost, LabPlan, plan_lab
from neti_lab.traffic import ask_from

pytestmark = [pytest.mark.lab, pytest.mark.zookeeper]


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def neti(
    plan: LabPlan, lab: LabState, host: LabHost, *words: str
) -> subprocess.CompletedProcess[str]:
    command = agents.neti_command(*words, "-c", str(lab.config(host.name)))
    inside = namespaces.command_inside(plan.namespace(host.name), command)
    return subprocess.run(inside, capture_output=True, text=True, timeout=180, check=False)


def is_answered(plan: LabPlan, caller: LabHost, overlay: str) -> bool:
    return isinstance(ask_from(plan, caller.name, [overlay])[overlay], Reply)


def test_who_is_called_stays_and_goes_when_nobody_calls_it_any_more(lab: LabState) -> None:
    plan = plan_lab(name=lab.name, hosts=2, registry="zookeeper")
    lifecycle.bring_up(lab, plan)
    client, old, far, other = plan.hosts
    overlay = neti(plan, lab, old, "overlay-ip", "--wait", "20").stdout.strip()
    eventually(partial(is_answered, plan, client, overlay))

    with namespaces.call_inside(plan.namespace(client.name), lambda: connect(overlay)) as held:
        assert ask(held).host == old.name
        said = neti(plan, lab, old, "drained", old.name, "--quiet", "1s")
        print(said.stdout, said.stderr)
        assert said.returncode == 1
        assert f"{client.name} is connected to " in said.stdout
        ready = neti(plan, lab, old, "ready", old.name)
        print(ready.stdout, ready.stderr)
        assert ready.returncode == 2
        assert f"{old.name}: may it move? " in ready.stdout
        # From elsewhere it is the host's own report that says so.
        away = neti(plan, lab, far, "drained", old.name, "--quiet", "1s", "--fresh")
        print(away.stdout, away.stderr)
        assert away.returncode == 1
        assert "connection of members is open" in away.stdout
        refused = neti(plan, lab, far, "retire", old.name, "--yes", "--quiet", "1s")
        assert refused.returncode == 1
        assert f"left alone: {old.name}" in refused.stderr
        assert ask(held).host == old.name

    done = neti(plan, lab, far, "drained", old.name, "--quiet", "5s", "--wait", "150s", "--fresh")
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout
    out = neti(plan, lab, far, "retire", old.name, "--yes", "--quiet", "5s", "--json")
    assert out.returncode == 0, out.stderr
    (row,) = json.loads(out.stdout)["hosts"]
    print(row)
    assert row["state"].startswith("out, after "), row
    for caller in (client, other):
        status = json.loads(neti(plan, lab, caller, "status", "--json").stdout)
        assert status["lost"] == []
        assert status["holds"] == []
    eventually(lambda: not is_answered(plan, client, overlay))
    assert agents.agent_of(old, state=lab) is None
