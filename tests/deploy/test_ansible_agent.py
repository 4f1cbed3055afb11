"""The role agent and the roll-out of enforcement, run by ansible-core against hosts of a lab."""

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.deploy.conftest import Site

from neti.control import client
from neti_lab.namespaces import command_inside

pytestmark = pytest.mark.lab

AGENTS: list[dict[str, Any]] = [
    {
        "name": "Agents",
        "hosts": "neti_agents",
        "gather_facts": False,
        "roles": ["neti.fleet.agent"],
    }
]
CONFIGURED = "The configuration"


def status(site: Site, host: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.call(site.disk(host) / "state", "status")
    return answer


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not _holds(condition):
        assert time.monotonic() < deadline, "not within 60 s"
        time.sleep(0.05)


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except client.AgentUnreachable:
        return False


def test_the_role_from_a_bare_host_to_a_refused_file(lab_site: Callable[..., Site]) -> None:
    """One host's life: check mode, installation, nothing to do, reload, restart, a broken file."""
    site, host = lab_site(1), "ec2-1"
    site.inventory(host)

    foreseen = site.controller.play(AGENTS, check=True)
    assert foreseen.code == 0, foreseen.output
    assert not any(site.disk(host).iterdir())
    assert foreseen.facts("neti_overlay_ip") == {host: None}

    first = site.controller.play(AGENTS)
    assert first.code == 0, first.output
    assert first.changed == foreseen.changed
    assert (host, CONFIGURED) in first.changed
    wait(lambda: status(site, host)["registered"])
    pid, overlay = site.pid(host), status(site, host)["overlay"]

    folder = site.disk(host) / "etc"
    folder.chmod(0o755)
    second = site.controller.play(AGENTS)
    assert folder.stat().st_mode & 0o777 == 0o755  # it may be /etc itself
    assert (second.code, second.changed) == (0, set()), second.output
    assert second.facts("neti_overlay_ip") == {host: overlay}
    assert "reloaded" not in site.log(host)

    site.inventory(host, open_ports=[80, "443/tcp", "8000:8010"])
    foreseen = site.controller.play(AGENTS, check=True)
    assert "+open_ports:" in foreseen.output.replace(" ", "")
    third = site.controller.play(AGENTS)
    assert third.changed == foreseen.changed
    assert third.changed == {(host, CONFIGURED), (host, "Reload the agent by commands")}
    wait(lambda: "reloaded" in site.log(host))
    assert (site.pid(host), status(site, host)["registered"]) == (pid, True)

    site.inventory(host, open_ports=[80, "443/tcp", "8000:8010"], session_seconds=7)
    fourth = site.controller.play(AGENTS)
    assert fourth.changed == {(host, CONFIGURED), (host, "Restart the agent by commands")}
    assert site.pid(host) != pid
    wait(lambda: status(site, host)["registered"])
    assert status(site, host)["overlay"] == overlay

    _refuses_a_broken_file(site, host)
    _stays_a_fact(site, host, overlay)


def _refuses_a_broken_file(site: Site, host: str) -> None:
    """In check mode as in a run: with what is wrong, and the host as it was."""
    before, pid = (site.disk(host) / "etc/neti.yml").read_bytes(), site.pid(host)
    site.inventory(host, open_ports=[99999], reject_all="true")
    for check in (True, False):
        broken = site.controller.play(AGENTS, check=check)
        assert broken.code != 0
        said = json.dumps([dict(done.result) for done in broken.failed])
        assert "open_ports" in said
        assert "write: reject_all: true" in said
        assert broken.changed == set()
    assert ((site.disk(host) / "etc/neti.yml").read_bytes(), site.pid(host)) == (before, pid)
    assert status(site, host)["registered"]


def _stays_a_fact(site: Site, host: str, overlay: str) -> None:
    """In the fact cache: a playbook that never asks Neti can use it, also for another host."""
    shown = {"name": "Show", "hosts": "localhost", "gather_facts": False}
    say = {"ansible.builtin.debug": {"msg": f"it is {{{{ hostvars['{host}'].neti_overlay_ip }}}}"}}
    told = site.controller.play([{**shown, "tasks": [say]}])
    assert [done.result["msg"] for done in told.tasks] == [f"it is {overlay}"]


ENFORCE = "Enforce, on trial first"


def test_enforcement_stops_at_the_first_host_whose_trial_fails(
    lab_site: Callable[..., Site],
) -> None:
    """What came before stays enforced, the host itself is in shadow again, the rest untouched."""
    site = lab_site(2, with_agents=True)
    names = [host.name for host in site.plan.hosts]
    config = {name: str(site.state.config(name)) for name in names}
    site.controller.inventory(
        {
            "neti_agents": {
                name: {
                    **site.variables(site.plan.host(name)),
                    "neti_agent_config_file": config[name],
                    "neti_enforce_trial": 5,
                }
                for name in names
            }
        }
    )
    with _disarming(site, "ec2-2"):
        stopped = site.controller.play(
            "neti.fleet.enforce", "-e", json.dumps({"neti_enforce_serial": [1]})
        )
    assert stopped.code != 0
    outcome = {name: done.status for name, done in stopped.of(ENFORCE).items()}
    assert outcome == {"ec2-1": "changed", "ec2-2": "failed"}, stopped.output
    assert "the trial was not confirmed" in stopped.of(ENFORCE)["ec2-2"].result["msg"]
    assert _stages(site) == ["enforced", "shadow", "shadow", "shadow"]

    everywhere = json.dumps({"neti_enforce_serial": "100%"})
    foreseen = site.controller.play("neti.fleet.enforce", "-e", everywhere, check=True)
    assert foreseen.changed == {(name, ENFORCE) for name in names[1:]}
    assert _stages(site) == ["enforced", "shadow", "shadow", "shadow"]
    done = site.controller.play("neti.fleet.enforce", "-e", everywhere)
    assert done.changed == foreseen.changed
    assert _stages(site) == ["enforced"] * 4

    back = site.controller.play("neti.fleet.relax")
    assert back.changed == {(name, "Relax") for name in names}
    assert _stages(site) == ["shadow"] * 4


def _stages(site: Site) -> list[str]:
    return [_stage(site, host.name) for host in site.plan.hosts]


def _stage(site: Site, host: str) -> str:
    return str(client.call(site.state.host_folder(host) / "state", "status")["stage"])


@contextmanager
def _disarming(site: Site, host: str) -> Iterator[None]:
    """Another program takes the host's trial out of its kernel as soon as it has begun."""

    def disarm() -> None:
        with contextlib.suppress(AssertionError):
            wait(lambda: _stage(site, host) == "trial")
        flush = ["nft", "flush", "map", "inet", "neti", "enforce"]
        subprocess.run(command_inside(site.plan.namespace(host), flush), check=True)

    thread = threading.Thread(target=disarm)
    thread.start()
    try:
        yield
    finally:
        thread.join()
