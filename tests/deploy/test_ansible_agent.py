"""The role agent and the roll-out of enforcement, run by ansible-core against hosts of a lab."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.deploy.conftest import Site

from neti.agent import control

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
    answer: dict[str, Any] = control.call(site.disk(host) / "state", "status")
    return answer


def registered(site: Site) -> None:
    wait(lambda: all(status(site, host.name)["registered"] for host in site.plan.hosts))


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not _holds(condition):
        assert time.monotonic() < deadline, "not within 20 s"
        time.sleep(0.05)


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except control.AgentUnreachable:
        return False


def test_the_role_from_a_bare_host_to_a_refused_file(lab_site: Callable[..., Site]) -> None:
    """One host's life: check mode, installation, nothing to do, reload, restart, a broken file."""
    site = lab_site(1)
    hosts = {host.name for host in site.plan.hosts}
    site.inventory()

    foreseen = site.controller.play(AGENTS, check=True)
    assert foreseen.code == 0, foreseen.output
    assert not any(any(site.disk(host).iterdir()) for host in hosts)
    assert foreseen.facts("neti_overlay_ip") == dict.fromkeys(hosts)

    first = site.controller.play(AGENTS)
    assert first.code == 0, first.output
    assert first.changed == foreseen.changed
    assert {host for host, task in first.changed if task == CONFIGURED} == hosts
    registered(site)
    pids = {host: site.pid(host) for host in hosts}

    second = site.controller.play(AGENTS)
    assert (second.code, second.changed) == (0, set()), second.output
    overlays = {host: status(site, host)["overlay"] for host in hosts}
    assert second.facts("neti_overlay_ip") == overlays

    site.inventory(open_ports=[80, "443/tcp", "8000:8010"])
    foreseen = site.controller.play(AGENTS, check=True)
    assert "+open_ports:" in foreseen.output.replace(" ", "")
    third = site.controller.play(AGENTS)
    assert third.changed == foreseen.changed
    assert third.changed == {
        (host, task) for host in hosts for task in (CONFIGURED, "Reload the agent by commands")
    }
    for host in hosts:
        wait(lambda host=host: "reload" in site.log(host))  # type: ignore[misc]
    assert {host: site.pid(host) for host in hosts} == pids
    registered(site)

    site.inventory(open_ports=[80, "443/tcp", "8000:8010"], session_seconds=7)
    foreseen = site.controller.play(AGENTS, check=True)
    fourth = site.controller.play(AGENTS)
    assert fourth.changed == foreseen.changed
    assert fourth.changed == {
        (host, task) for host in hosts for task in (CONFIGURED, "Restart the agent by commands")
    }
    assert all(site.pid(host) != pids[host] for host in hosts)
    registered(site)
    assert {host: status(site, host)["overlay"] for host in hosts} == overlays

    _refuses_a_broken_file(site)


def _refuses_a_broken_file(site: Site) -> None:
    """In check mode as in a run: with what is wrong, and the hosts as they were."""
    hosts = {host.name for host in site.plan.hosts}
    before = {host: (site.disk(host) / "etc/neti.yml").read_bytes() for host in hosts}
    pids = {host: site.pid(host) for host in hosts}
    site.inventory(open_ports=[99999], reject_all="true")
    for check in (True, False):
        broken = site.controller.play(AGENTS, check=check)
        assert broken.code != 0
        assert {done.host for done in broken.failed} == hosts
        said = json.dumps([dict(done.result) for done in broken.failed])
        assert "open_ports" in said
        assert "write: reject_all: true" in said
        assert broken.changed == set()
        assert {host: (site.disk(host) / "etc/neti.yml").read_bytes() for host in hosts} == before
        assert {host: site.pid(host) for host in hosts} == pids
    assert all(status(site, host)["registered"] for host in hosts)
