"""The lab's networks in the real kernel, without agents: who reaches whom, and what is left."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from neti_lab import LabError, lifecycle, namespaces, processes, services
from neti_lab.agents import neti_command
from neti_lab.probe import Reply, fetch
from neti_lab.processes import Process
from neti_lab.state import LABS, LabState
from neti_lab.topology import STRANGER, STRANGER_ADDRESS, LabPlan, plan_lab
from neti_lab.traffic import Refusal, ask_from

pytestmark = pytest.mark.kernel

Neti = Callable[..., subprocess.CompletedProcess[str]]
_PATIENCE = 20.0  # for a slow machine; nothing waits this long when it works


@pytest.fixture
def plan(lab: LabState) -> LabPlan:
    """Two hosts a site, up and served."""
    plan = plan_lab(name=lab.name, hosts=2)
    lifecycle.bring_up(lab, plan, with_agents=False)
    return plan


def test_in_site_by_private_and_across_by_public_address(plan: LabPlan) -> None:
    for caller in plan.hosts:
        for target in plan.hosts:
            in_site = caller.site == target.site
            address = str(target.private if in_site else target.public)
            reply = ask_from(plan, caller.name, [address], seconds=_PATIENCE)[address]
            seen_from = caller.private if in_site else caller.public
            assert reply == Reply(target.name, str(seen_from), str(target.private))


def test_a_neighbour_called_by_its_public_address_sees_the_callers_public_one(
    plan: LabPlan,
) -> None:
    for site in plan.sites:
        caller, target = site.hosts
        for called in (target, caller):  # itself, too
            address = str(called.public)
            reply = ask_from(plan, caller.name, [address], seconds=_PATIENCE)[address]
            assert reply == Reply(called.name, str(caller.public), str(called.private))


def test_the_stranger_reaches_public_addresses_only(plan: LabPlan) -> None:
    host = plan.hosts[0]
    public, private = str(host.public), str(host.private)
    reply = ask_from(plan, STRANGER, [public], seconds=_PATIENCE)[public]
    assert reply == Reply(host.name, str(STRANGER_ADDRESS), private)
    assert isinstance(ask_from(plan, STRANGER, [private], seconds=0.5)[private], Refusal)


def test_a_public_address_that_no_host_has_leads_nowhere_at_once(plan: LabPlan) -> None:
    address = str(plan.sites[0].host(40).public)
    reply = ask_from(plan, STRANGER, [address], seconds=30)[address]
    assert isinstance(reply, Refusal)
    assert "No route to host" in reply.reason


def test_a_host_can_be_added_while_the_lab_is_up(lab: LabState, plan: LabPlan) -> None:
    plan, host = lifecycle.add_host(lab, plan, "vpc")
    reply = ask_from(plan, "ec2-1", [str(host.public)], seconds=_PATIENCE)[str(host.public)]
    assert reply == Reply("vpc-3", "198.51.100.11", str(host.private))


def test_each_host_has_a_metadata_service_of_its_own(plan: LabPlan) -> None:
    def instance_id() -> str:
        with socket.create_connection(("169.254.169.254", 80), timeout=20) as connection:
            connection.sendall(
                b"PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
                b"Connection: close\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n"
            )
            token = _body(connection)
        with socket.create_connection(("169.254.169.254", 80), timeout=20) as connection:
            connection.sendall(
                b"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                b"X-aws-ec2-metadata-token: " + token + b"\r\n\r\n"
            )
            return _body(connection).decode()

    for host in plan.hosts:
        assert namespaces.call_inside(plan.namespace(host.name), instance_id) == host.name


def _body(connection: socket.socket) -> bytes:
    answer = connection.makefile("rb").read()
    assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")), answer
    return answer.partition(b"\r\n\r\n")[2].strip()


def _machine() -> dict[str, str]:
    """Everything of the machine's own network that a lab might spoil."""
    commands = ("ip -j link", "ip -j address", "ip -j route show table all", "ip -j rule")
    state = {line: subprocess.check_output(line.split(), text=True) for line in commands}
    # Addresses from DHCP count down; that is not the lab's doing.
    for line, text in state.items():
        entries = json.loads(text or "[]")
        for entry in entries:
            for address in entry.get("addr_info", ()):
                address.pop("valid_life_time", None)
                address.pop("preferred_life_time", None)
        state[line] = json.dumps(entries)
    state["nft"] = subprocess.check_output(["nft", "list", "ruleset"], text=True)
    for path in Path("/proc/sys/net/ipv4/conf").glob("*/*"):
        state[str(path)] = path.read_text() if path.name != "flush" else ""
    state["ip_forward"] = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    return state


def test_the_machines_own_network_is_not_touched(lab: LabState) -> None:
    before = _machine()
    plan = plan_lab(name=lab.name, hosts=2)
    lifecycle.bring_up(lab, plan, with_agents=False)
    lifecycle.add_host(lab, plan, "ec2")
    assert _machine() == before
    lifecycle.take_down(lab)
    assert _machine() == before


def test_nothing_is_left_after_teardown_and_a_second_lab_works_at_once(lab: LabState) -> None:
    for _ in range(2):
        plan = plan_lab(name=lab.name, hosts=2)
        lifecycle.bring_up(lab, plan, with_agents=False)
        served = lab.process("serve")
        assert served is not None
        removed = lifecycle.take_down(lab)
        assert removed.namespaces == len(plan.nodes)
        assert not served.alive
        assert not lifecycle.anything_left(lab)


def test_fifty_hosts_a_site_come_up(lab: LabState) -> None:
    plan = plan_lab(name=lab.name, hosts=50)
    lifecycle.bring_up(lab, plan, with_agents=False)
    address = str(plan.host("vpc-50").public)
    assert ask_from(plan, "ec2-50", [address], seconds=_PATIENCE)[address] == Reply(
        "vpc-50", "198.51.100.60", "10.0.0.60"
    )


@pytest.mark.parametrize("after_seconds", [0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
def test_a_command_killed_at_any_moment_leaves_nothing_that_the_next_trips_over(
    lab: LabState, lab_command: Callable[..., list[str]], neti_lab: Neti, after_seconds: float
) -> None:
    victim = subprocess.Popen(
        lab_command("up", "--no-agents", "--hosts", "20"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(after_seconds)
    victim.kill()
    victim.wait()
    if not lifecycle.is_up(lab):
        up = neti_lab("up", "--no-agents", "--hosts", "1")
        assert up.returncode == 0, up.stderr
    down = neti_lab("down")
    assert down.returncode == 0, down.stderr
    assert not lifecycle.anything_left(lab)


def test_what_runs_inside_is_ended_with_the_lab_and_nothing_else_is(
    lab: LabState, plan: LabPlan
) -> None:
    sleep = ["sleep", "60"]
    with (
        subprocess.Popen(namespaces.command_inside(plan.namespace("ec2-1"), sleep)) as inside,
        subprocess.Popen(sleep) as outside,
    ):
        _wait(lambda: inside.pid in namespaces.processes_in([plan.namespace("ec2-1")]))
        lifecycle.take_down(lab)
        assert inside.wait(20) == -signal.SIGTERM
        assert outside.poll() is None
        outside.kill()


def test_a_recycled_process_id_is_never_signalled(lab: LabState, plan: LabPlan) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        now = processes.find(bystander.pid)
        assert now is not None
        processes.remember(Process(now.pid, now.started - 1), lab.record("agent-ec2-1"))
        lifecycle.take_down(lab)
        assert bystander.poll() is None
        bystander.kill()


def test_the_services_end_when_their_lab_is_gone(lab: LabState, plan: LabPlan) -> None:
    served = lab.process("serve")
    assert served is not None
    (lab.folder / "plan.json").unlink()
    _wait(lambda: not served.alive)


def test_up_on_a_lab_that_is_up_says_so(plan: LabPlan, neti_lab: Neti) -> None:
    again = neti_lab("up")
    assert again.returncode == 1
    said, *then = again.stderr.strip().splitlines()
    assert "is up already" in said
    assert all(line.lstrip().startswith("→ ") for line in then)


def test_exec_passes_the_exit_code_on(plan: LabPlan, neti_lab: Neti) -> None:
    assert neti_lab("exec", "ec2-1", "sh", "-c", "exit 7").returncode == 7
    unknown = neti_lab("exec", "nobody", "true")
    assert unknown.returncode == 1
    assert f"the lab '{plan.name}' has no 'nobody'" in unknown.stderr


def test_status_tells_scripts_what_it_tells_people(plan: LabPlan, neti_lab: Neti) -> None:
    told = neti_lab("status", "--json")
    assert told.returncode == 0, told.stderr
    document = json.loads(told.stdout)
    assert document["up"] is True
    assert [host["name"] for host in document["hosts"]] == [host.name for host in plan.hosts]
    assert "10.0.0.12" in neti_lab("status").stdout


def test_no_lab_is_one_clear_sentence(lab: LabState, neti_lab: Neti) -> None:
    for command in (["status"], ["exec", "ec2-1", "true"]):
        done = neti_lab(*command)
        assert done.returncode == 1
        assert "is not up" in done.stderr
    assert neti_lab("down").returncode == 0


def test_two_commands_do_not_work_on_one_lab_at_the_same_time(
    lab: LabState, neti_lab: Neti
) -> None:
    with lifecycle.commanding(lab):
        other = neti_lab("up")
    assert other.returncode == 1
    assert f"process {os.getpid()}" in other.stderr


def test_a_port_that_is_taken_is_named_and_nothing_stays(
    lab: LabState,
) -> None:
    plan = plan_lab(name=lab.name, hosts=1)
    lifecycle.build_networks(lab, plan)
    taken = namespaces.call_inside(plan.namespace("ec2-1"), socket.socket)
    with taken:
        taken.bind(("0.0.0.0", 8080))
        taken.listen()
        with pytest.raises(LabError, match=r"cannot listen on 0\.0\.0\.0:8080"):
            services.start(lab, neti_command("lab", "serve", "--name", lab.name))


def test_without_root_or_a_program_there_is_one_clear_sentence(
    lab: LabState, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(LabError, match="only root may"):
            namespaces.require()
    monkeypatch.setattr("shutil.which", lambda program, path=None: None)
    with pytest.raises(LabError, match="Debian's package 'iproute2'"):
        namespaces.require()


def test_a_thread_that_enters_a_namespace_takes_no_other_along(plan: LabPlan) -> None:
    own = os.stat("/proc/thread-self/ns/net").st_ino
    inside = namespaces.call_inside(
        plan.namespace("ec2-1"), lambda: os.stat("/proc/thread-self/ns/net").st_ino
    )
    assert inside != own
    assert os.stat("/proc/thread-self/ns/net").st_ino == own
    with pytest.raises(OSError, match=r"unreachable|timed out|refused"):
        fetch("10.0.0.12", seconds=0.2)


def test_only_root_looks_into_a_labs_folder(lab: LabState, plan: LabPlan) -> None:
    assert (lab.folder.stat().st_mode & 0o777, LABS.stat().st_mode & 0o777) == (0o700, 0o700)


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "not within 30 s"
        time.sleep(0.02)
