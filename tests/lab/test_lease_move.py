"""An overlay address moves from a retired host to its replacement, with real agents and packets."""

import contextlib
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from neti.registry.zookeeper.certificates import Wanted, make
from neti_lab import agents, lifecycle, namespaces, registries
from neti_lab.probe import Reply, ask, connect
from neti_lab.state import LabState
from neti_lab.topology import INTERNET, INTERNET_ADDRESS, LabHost, LabPlan, RegistryKind, plan_lab
from neti_lab.traffic import Probe, Refusal, ask_from
from neti_lab.zookeeper import ServerTLS, ZooKeeperServer

pytestmark = [pytest.mark.lab, pytest.mark.zookeeper]

TLS_PORT = 2281


@pytest.fixture(params=["embedded", "zookeeper", "zookeeper-tls-acl"])
def moving(request: pytest.FixtureRequest, lab: LabState, tmp_path: Path) -> Iterator[LabPlan]:
    """Two hosts a site with agents, on each kind of registry."""
    kind: RegistryKind = "embedded" if request.param == "embedded" else "zookeeper"
    plan = plan_lab(name=lab.name, hosts=2, registry=kind)
    if request.param != "zookeeper-tls-acl":
        lifecycle.bring_up(lab, plan)
        yield plan
        return
    lifecycle.bring_up(lab, plan, with_agents=False)
    folder = tmp_path / "ca"
    wanted = [
        Wanted("zk1", "servers", (str(INTERNET_ADDRESS),)),
        Wanted("chief", "operators"),
        *(Wanted(host.name, "hosts") for host in plan.hosts),
    ]
    make(folder, wanted, days=30, now=time.time())
    with ZooKeeperServer(
        address=str(INTERNET_ADDRESS),
        port=TLS_PORT,
        namespace=plan.namespace(INTERNET),
        tick_ms=1000,
        security=ServerTLS.of(folder, "zk1"),
    ):
        for host in plan.hosts:
            secure(lab.config(host.name), folder, f"host-{host.name}")
        neti(plan, lab, plan.hosts[0], "registry", "init")
        agents.start(plan, plan.hosts, state=lab)
        registries.wait_until_registered(plan, lab)
        yield plan
        lifecycle.take_down(lab)


def secure(config: Path, folder: Path, stem: str) -> None:
    """Let a host's configuration speak TLS, and put an operator's beside it."""
    document = yaml.safe_load(config.read_text())
    document["zk_hosts"] = {
        site: [f"{INTERNET_ADDRESS}:{TLS_PORT}"] for site in document["zk_hosts"]
    }
    for path, name in ((config, stem), (operators(config), "operator-chief")):
        document["registry_tls"] = {
            "ca": str(folder / "ca.pem"),
            "cert": str(folder / f"{name}.pem"),
            "key": str(folder / f"{name}.key"),
        }
        path.write_text(yaml.safe_dump(document))


def operators(config: Path) -> Path:
    return config.with_name("operator.yml")


def neti(plan: LabPlan, lab: LabState, host: LabHost, *words: str, fails: bool = False) -> str:
    """What an operator types on that host, with an operator's certificate where there are any."""
    config = lab.config(host.name)
    own = operators(config) if operators(config).exists() else config
    command = agents.neti_command(*words, "-c", str(own))
    done = subprocess.run(
        namespaces.command_inside(plan.namespace(host.name), command),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode != 0) == fails, done.stderr
    return (done.stderr if fails else done.stdout).strip()


def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers(plan: LabPlan, caller: LabHost, overlay: str) -> str | None:
    reply = ask_from(plan, caller.name, [overlay])[overlay]
    return reply.host if isinstance(reply, Reply) else None


def is_answered_by(plan: LabPlan, caller: LabHost, overlay: str, name: str) -> bool:
    return answers(plan, caller, overlay) == name


def test_clients_follow_an_address_to_the_replacement_of_a_retired_host(
    lab: LabState, moving: LabPlan
) -> None:
    client, old, new, far = moving.hosts
    address = {h.name: neti(moving, lab, h, "overlay-ip", "--wait", "20") for h in moving.hosts}
    service = address[old.name]
    for caller in (client, far):
        eventually(partial(is_answered_by, moving, caller, service, old.name))
    said = neti(moving, lab, client, "lease", "move", old.name, new.name, fails=True)
    assert f"{old.name} is registered" in said
    assert answers(moving, client, service) == old.name, "a refused move changes nothing"

    # An operator retires the old host.
    agents.neti(moving, old, "leave", state=lab)
    eventually(lambda: isinstance(ask_from(moving, client.name, [service])[service], Refusal))
    with (
        Probe(moving, client.name, "first", service) as near,
        Probe(moving, far.name, "first", service) as across,
    ):
        for probe in (near, across):
            probe.wait_until_ready()
        neti(moving, lab, client, "lease", "move", old.name, new.name)
        moved = time.monotonic()
        reached = [probe.result(seconds=20) for probe in (near, across)]
    for host, at in zip((client, far), reached, strict=True):
        assert at is not None, f"{host.name} does not reach the new host"
        # The command ends a moment after the registry has it, so this may be below zero.
        print(f"{host.name} reaches the new host {1000 * (at - moved):.0f} ms after the command")
        assert answers(moving, host, service) == new.name
    assert neti(moving, lab, new, "overlay-ip") == service
    assert answers(moving, new, service) == new.name, "and it reaches itself"
    eventually(lambda: answers(moving, client, address[new.name]) is None)
    status = json.loads(agents.neti(moving, client, "status", "--json", state=lab).stdout)
    assert status["skipped"]["count"] == 0


def ends_within(seconds: float, connection: socket.socket) -> bool:
    """By the other side's word, not by silence."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            ask(connection)
        except TimeoutError:
            return False
        except OSError:
            return True
        time.sleep(0.1)
    return False


def test_a_forced_move_ends_connections_to_the_old_host_and_gives_it_another_address(
    lab: LabState, moving: LabPlan
) -> None:
    client, old, new, _ = moving.hosts
    service = neti(moving, lab, old, "overlay-ip", "--wait", "20")
    eventually(lambda: answers(moving, client, service) == old.name)
    held = namespaces.call_inside(moving.namespace(client.name), lambda: connect(service))
    with held:
        assert ask(held).host == old.name
        neti(moving, lab, client, "lease", "move", old.name, new.name, "--force")
        eventually(lambda: answers(moving, client, service) == new.name)
        # The new host knows nothing of this connection, and says so: it does not hang.
        held.settimeout(10)
        assert ends_within(10, held)
    eventually(lambda: neti(moving, lab, old, "overlay-ip") not in ("", service))
    other = neti(moving, lab, old, "overlay-ip")
    eventually(lambda: answers(moving, client, other) == old.name)
    with contextlib.suppress(json.JSONDecodeError):
        status = json.loads(agents.neti(moving, old, "status", "--json", state=lab).stdout)
        assert status["registered"]


@pytest.mark.parametrize("dead", [False, True], ids=["alive", "dead"])
def test_one_command_takes_the_old_host_out_and_gives_its_address_away(
    lab: LabState, moving: LabPlan, dead: bool
) -> None:
    client, old, new, far = moving.hosts
    address = {h.name: neti(moving, lab, h, "overlay-ip", "--wait", "20") for h in moving.hosts}
    service = address[old.name]
    for caller in (client, far):
        eventually(partial(is_answered_by, moving, caller, service, old.name))
    if dead:
        agents.send(old, signal.SIGKILL, state=lab)
    begun = time.monotonic()
    said = neti(moving, lab, client, "lease", "move", old.name, new.name, "--take-out", "--yes")
    print(f"{time.monotonic() - begun:.2f} s\n{said}")
    assert f"{new.name} has registered with it" in said
    assert f"{old.name} is out of the fleet" in said
    for caller in (client, far):
        eventually(partial(is_answered_by, moving, caller, service, new.name), 5)
    assert neti(moving, lab, new, "overlay-ip") == service
    eventually(lambda: answers(moving, client, address[new.name]) is None)
    # Once more: nothing is moved twice.
    neti(moving, lab, client, "lease", "move", old.name, new.name, "--take-out", "--yes")
    assert neti(moving, lab, new, "overlay-ip") == service
    assert answers(moving, client, service) == new.name
    # It stays out when its agent starts again, and is back when an operator says so.
    agents.start(moving, [old], state=lab)
    out = "took this host out of the fleet"
    eventually(lambda: out in agents.neti(moving, old, "status", state=lab).stdout)
    neti(moving, lab, client, "retire", "--back", old.name)
    eventually(lambda: neti(moving, lab, old, "overlay-ip", "--wait", "5") != service)
    other = neti(moving, lab, old, "overlay-ip")
    eventually(partial(is_answered_by, moving, client, other, old.name))
