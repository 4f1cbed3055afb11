"""A command is answered after the kernel: what it refused is not said to be in force."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.support.agents import World, world

import neti.cli.reload
import neti.cli.status
from neti.cli import cli
from neti.cli.status import _status_lines
from neti.dataplane.monitor import RulesChanged
from neti.errors import StructureRefused
from neti.model.settings import OpenPort
from neti.registry import Stale

REFUSED = "libnftables cannot be loaded"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def test_what_the_kernel_refuses_is_not_said_to_be_in_force(fleet: World) -> None:
    box = fleet.started(1)
    box.dataplane.failing = REFUSED
    opened = replace(box.settings, open_ports=(OpenPort(8080, 8080, "tcp"),), linger_seconds=7)
    box.new_settings = opened
    said = box.ask("reload")["result"]
    assert said["changed"] == ["linger_seconds"]
    assert said["waiting"] == ["open_ports"]
    assert REFUSED in said["refused"]
    # Nothing has changed since, and it is as little in force as before; nor is what comes on top.
    said = box.ask("reload")["result"]
    assert (said["changed"], said["waiting"]) == ([], ["open_ports"])
    box.new_settings = replace(opened, ssh_whitelist=(ip_network("10.9.0.0/16"),))
    said = box.ask("reload")["result"]
    assert (said["changed"], said["waiting"]) == ([], ["open_ports", "ssh_whitelist"])
    box.dataplane.failing = None
    said = box.ask("reload")["result"]
    assert (said["changed"], said["waiting"], said["refused"]) == ([], [], None)


def test_what_the_kernel_took_meanwhile_is_not_named_again(fleet: World) -> None:
    box = fleet.started(1)
    box.dataplane.failing = REFUSED
    box.new_settings = replace(box.settings, open_ports=(OpenPort(8080, 8080, "tcp"),))
    assert box.ask("reload")["result"]["waiting"] == ["open_ports"]
    box.dataplane.failing = None
    fleet.pass_time(60)
    box.dataplane.failing = REFUSED
    box.new_settings = replace(box.new_settings, trusted=(ip_network("10.9.0.0/16"),))
    assert box.ask("reload")["result"]["waiting"] == ["trusted"]


def test_a_trial_that_the_configuration_begins_has_begun_or_it_is_said_why_not(
    fleet: World,
) -> None:
    box = fleet.started(1, ssh_whitelist=())
    box.new_settings = replace(box.settings, reject_all=True)
    said = box.ask("reload")["result"]
    assert (said["changed"], said["waiting"], said["stage"]) == ([], ["reject_all"], "shadow")
    assert "ssh_whitelist" in said["refused"]
    other = fleet.started(2)
    other.new_settings = replace(other.settings, reject_all=True)
    said = other.ask("reload")["result"]
    assert (said["changed"], said["refused"], said["stage"]) == (["reject_all"], None, "trial")


def test_enforced_already_is_what_the_kernel_says(fleet: World) -> None:
    box = fleet.started(1)
    box.ask("enforce", wait=True)
    box.ask("confirm")
    box.dataplane.table = None
    box.dataplane.failing = REFUSED
    for command in ("enforce", "confirm"):
        assert REFUSED in box.ask(command)["error"]
    box.dataplane.failing = None
    assert "already" in box.ask("enforce")["result"]["said"]


def test_a_release_is_told_when_the_kernel_has_it(fleet: World) -> None:
    one, *others = fleet.crowd(range(1, 11))
    fleet.pass_time(1)
    for other in others[:6]:
        session = other.running.core.out.folder.load("this machine").session
        assert session is not None
        other.stop()
        fleet.server.expire(session)
    fleet.settle()
    fleet.pass_time(one.settings.linger_seconds + 1)
    held = sorted(one.running.core.members.fleet.holds)
    assert held
    one.dataplane.failing = REFUSED
    assert "still have access" in one.ask("release", ids=held[:1])["error"]
    one.dataplane.failing = None
    assert one.ask("release", ids=held[1:2])["result"]["released"] == held[1:2]
    assert not set(one.elements("peers4")) & {
        str(other.host.private) for other in others if other.host.id in held[:2]
    }


@pytest.mark.parametrize(("refused", "code"), [(None, 0), (REFUSED, 1)])
def test_a_reload_that_is_not_in_force_does_not_exit_with_0(
    refused: str | None, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: dict[str, Any] = {
        "changed": ["linger_seconds"],
        "restart": [],
        "waiting": [] if refused is None else ["open_ports"],
        "refused": refused,
        "stage": "enforced",
        "reject_all": True,
        "trial_seconds": 120,
    }
    monkeypatch.setattr(neti.cli.reload, "ask", lambda *_, **__: said)
    (tmp_path / "neti.yml").write_text(f"table_files_path: {tmp_path}\n")
    done = CliRunner().invoke(cli, ["reload", "-c", str(tmp_path / "neti.yml")])
    assert done.exit_code == code
    assert "in force now: linger_seconds" in done.stdout
    assert ("NOT in force: open_ports" in done.stderr) == (code == 1)


def test_a_reload_that_begins_a_trial_says_so_and_what_it_shuts(
    fleet: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    box = fleet.started(1)
    box.shadow.used = {("tcp", 8080): "8080/tcp (2 sources, 192.0.2.7 for one)"}
    box.new_settings = replace(box.settings, reject_all=True, trial_seconds=77)
    said = box.ask("reload")["result"]
    monkeypatch.setattr(neti.cli.reload, "ask", lambda *_, **__: said)
    (tmp_path / "neti.yml").write_text(f"table_files_path: {tmp_path}\n")
    done = CliRunner().invoke(cli, ["reload", "-c", str(tmp_path / "neti.yml")])
    assert "a trial of 77 s begins" in done.stdout
    assert "Ports in use that it shuts: 8080/tcp (2 sources" in done.stdout


def test_what_the_kernel_lacks_is_a_line(fleet: World) -> None:
    box = fleet.box(1)
    box.machine.tells_control_groups = False
    box.start()
    fleet.settle()
    assert "kernel    does not support matching packets by control group (Linux 5.13): " in (
        "\n".join(_status_lines(box.told()))
    )
    assert not any(line.startswith("kernel") for line in _status_lines(fleet.started(2).told()))


def test_nobody_is_said_to_be_registered_while_the_registry_is_away(fleet: World) -> None:
    """The session may have ended meanwhile, and peers may count this host as lost."""
    box = fleet.started(1)
    assert any(line.endswith("in step; registered") for line in _status_lines(box.told()))
    box.running.tell(Stale("the connection to ZooKeeper was lost"))
    fleet.settle()
    assert any("registered when it last was" in line for line in _status_lines(box.told()))


def test_an_agent_is_asked_also_when_its_folder_is_refused(
    fleet: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = fleet.started(1).status()
    monkeypatch.setattr(neti.cli.status, "ask", lambda *_, **__: said)
    state = tmp_path / "everybodys"
    state.mkdir(mode=0o777)
    state.chmod(0o777)
    config = tmp_path / "neti.yml"
    config.write_text(f"registry: embedded:/r.db\ntable_files_path: {state}\nsite: ec2\n")
    done = CliRunner().invoke(cli, ["status", "-c", str(config)])
    assert "ec2-1" not in done.stdout
    (state / "agent.sock").touch()
    done = CliRunner().invoke(cli, ["status", "-c", str(config)])
    assert done.exit_code == 2
    assert "chmod o-w" in done.stderr
    assert "ec2-1 in site ec2" in done.stdout


def test_the_cause_is_not_hidden_by_what_follows_from_it(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the library no table can be made; that members cannot be put into it is no news."""
    box = fleet.started(1)

    def refused(*_: object) -> None:
        raise StructureRefused(REFUSED)

    monkeypatch.setattr(box.running.core.out.reconciler, "resync", refused)
    box.dataplane.table = None
    box.running.tell(RulesChanged(1, "nft"))
    fleet.settle()
    fleet.pass_time(0.5)
    assert box.problems()["kernel"] == REFUSED
    for number in range(2, 6):
        fleet.started(number)
        fleet.pass_time(0.5)
        assert box.problems()["kernel"] == REFUSED
