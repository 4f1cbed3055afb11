"""The demo end to end: real agents, real packets, and nothing left of it however it ends."""

import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable

import pytest
from tests.lab.conftest import code_as_shells_tell
from tests.support.front import started_in_front

from neti_lab import LabError, agents, lifecycle
from neti_lab.state import LabState
from neti_lab.topology import plan_lab

pytestmark = pytest.mark.lab

Neti = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("registry", ["embedded", "zookeeper"])
def test_the_demo_is_well_from_end_to_end(lab: LabState, neti_lab: Neti, registry: str) -> None:
    if registry == "zookeeper":
        from tests.support.zookeeper import need_zookeeper

        need_zookeeper()
    done = neti_lab("demo", "--registry", registry)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT OK" not in done.stdout
    assert re.search(r"pairs that reach each other +ok +56 of 56", done.stdout)
    assert re.search(r"^in-site by private address +ok +24 of 24", done.stdout, re.MULTILINE)
    assert re.search(r"^cross-site by public address +ok +32 of 32", done.stdout, re.MULTILINE)
    assert re.search(r"reject_all on: hosts the stranger reaches +ok +0 of 8", done.stdout)
    assert not lifecycle.anything_left(lab)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("scene", ["1. Networks", "2. Agents start", "7. An agent is killed"])
def test_the_demo_takes_everything_down_when_it_is_interrupted(
    lab: LabState,
    lab_command: Callable[..., list[str]],
    scene: str,
    number: signal.Signals,
) -> None:
    with started_in_front(
        lab_command("demo", "--hosts", "2"), stdout=subprocess.PIPE, bufsize=1
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith(scene):
                break
        time.sleep(0.3)
        demo.send_signal(number)
        rest = demo.stdout.read()
        assert code_as_shells_tell(demo) == 130, rest
    assert not lifecycle.anything_left(lab)


def test_what_a_killed_demo_leaves_behind_the_next_one_clears(
    lab: LabState, lab_command: Callable[..., list[str]], neti_lab: Neti
) -> None:
    with started_in_front(
        lab_command("demo", "--hosts", "2"), stdout=subprocess.PIPE, bufsize=1
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith("3. "):
                break
        demo.kill()
        demo.wait()
    assert lifecycle.anything_left(lab)
    up = neti_lab("up", "--hosts", "1", "--no-agents")
    assert up.returncode == 0, up.stderr
    # Five processes that stay, and perhaps a command that the demo was just running on a host.
    assert "cleared what an earlier lab had left behind: 10 namespaces, " in up.stdout
    assert neti_lab("down").returncode == 0
    assert not lifecycle.anything_left(lab)


def test_kept_labs_stay_up_until_they_are_taken_down(lab: LabState, neti_lab: Neti) -> None:
    done = neti_lab("demo", "--hosts", "1", "--keep")
    assert done.returncode == 0, done.stdout + done.stderr
    assert lifecycle.is_up(lab)
    told = neti_lab("exec", "ec2-1", "sh", "-c", 'neti status -c "$NETI_CONFIG" --json')
    assert told.returncode == 0, told.stderr
    read = neti_lab("sniff", "--seconds", "0.5")
    assert read.returncode == 0, read.stderr
    assert re.search(r"in the clear: [1-9].* packets, [1-9].* with words in them", read.stdout)
    assert "encrypted: 0 packets" in read.stdout
    assert neti_lab("down").returncode == 0
    assert not lifecycle.anything_left(lab)


def test_an_agent_that_does_not_run_is_named_with_its_last_word(lab: LabState) -> None:
    plan = plan_lab(name=lab.name, hosts=1)
    lifecycle.bring_up(lab, plan, with_agents=False)
    lab.config("ec2-1").write_text("nonsense: true\n")
    agents.start(plan, plan.hosts, state=lab)
    deadline = time.monotonic() + 30
    while agents.agent_of(plan.hosts[0], state=lab) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(LabError, match=r"the agent of ec2-1 does not run: .*neti\.yml"):
        agents.check_running(plan.hosts, state=lab)
    agents.check_running(plan.hosts[1:], state=lab)


def test_agents_leave_the_machines_host_name_alone(lab: LabState, neti_lab: Neti) -> None:
    before = socket.gethostname()
    assert neti_lab("up", "--hosts", "1").returncode == 0
    assert neti_lab("exec", "vpc-1", "hostname").stdout.strip() == "vpc-1"
    assert socket.gethostname() == before
