"""Units and maintainer scripts, as far as they can be judged without installing them; what they do
is tested by make package-test."""

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from neti.cli import cli
from neti.control.protocol import USUAL_RUN
from neti.dataplane.wireguard import DEVICE
from neti.dataplane.wireguard.uapi import SOCKETS
from neti.identity.machine import SOURCES

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
WIREGUARD = DEPLOY / "neti-wireguard.service"
OF_NETI = [unit for unit in UNITS if unit != WIREGUARD]
OF_THE_AGENT = [unit for unit in OF_NETI if unit.name != "neti-zk-proxy.service"]
EVERY_UNIT = [*UNITS, *sorted(DEPLOY.rglob("*.service.j2"))]
SCRIPTS = sorted(p for p in (DEPLOY / "debian").iterdir() if p.stat().st_mode & 0o100)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.name))
def test_no_unit_can_do_much_beyond_its_work(unit: Path) -> None:
    """By systemd's own measure."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    judged = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=true",
            "--threshold=20",
            "--no-pager",
            str(unit),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout + judged.stderr


@pytest.mark.parametrize("unit", OF_NETI, ids=lambda unit: str(unit.name))
def test_units_call_what_there_is(unit: Path) -> None:
    """Each subcommand exists, and each page that they name."""
    text = unit.read_text()
    called = re.findall(r"/usr/bin/neti ([a-z-]+)", text)
    named = re.findall(r"man:neti-([a-z-]+)\(1\)", text)
    assert called
    assert set(called) | set(named) <= set(cli.list_commands(click.Context(cli)))


@pytest.mark.parametrize("unit", EVERY_UNIT, ids=lambda unit: str(unit.name))
def test_each_unit_has_its_own_limit_of_files(unit: Path) -> None:
    """A machine's default may be anything, and whoever opens connections counts on it."""
    assert re.search(r"^LimitNOFILE=[0-9]{4,5}$", unit.read_text(), re.MULTILINE)


def test_the_socket_has_a_place_beside_the_state_folder() -> None:
    """The agent may not make a folder in /run."""
    assert f"RuntimeDirectory={USUAL_RUN.name}\n" in (DEPLOY / "neti.service").read_text()


@pytest.mark.parametrize("unit", OF_THE_AGENT, ids=lambda unit: str(unit.name))
def test_each_unit_sees_the_machine_that_root_sees(unit: Path) -> None:
    """What only root can read is handed over; an agent without it would refuse root's state."""
    text = unit.read_text()
    assert "User=neti\n" in text
    (product,) = [path for path in SOURCES if path.name == "product_uuid"]
    assert f"LoadCredential=product_uuid:{product}\n" in text
    assert "SetCredential=product_uuid:none\n" in text  # no such file is no failure


def test_wireguard_go_is_where_it_looks_and_where_the_agent_asks() -> None:
    """It watches the socket at this path and no other, and ends when it cannot."""
    socket = (DEPLOY / "neti-wireguard.socket").read_text()
    assert SOCKETS.resolve() == Path("/run/wireguard")
    assert f"ListenStream=/run/wireguard/{DEVICE}.sock\n" in socket
    assert f"ExecStart=/usr/bin/wireguard-go {DEVICE}\n" in WIREGUARD.read_text()


def test_wireguard_go_is_not_root_nor_the_agent() -> None:
    """It reads its socket as its owner, and the agent as its group."""
    socket, service = (DEPLOY / "neti-wireguard.socket").read_text(), WIREGUARD.read_text()
    for words in ("SocketUser=neti-wireguard", "SocketGroup=neti", "SocketMode=0660"):
        assert f"{words}\n" in socket
    for words in ("User=neti-wireguard", "CapabilityBoundingSet=CAP_NET_ADMIN"):
        assert f"{words}\n" in service
    users = (DEPLOY / "neti.sysusers").read_text() + (DEPLOY / "debian/postinst").read_text()
    assert users.count("neti-wireguard - ") == 1
    assert "useradd --system --gid neti-wireguard" in users


def test_every_loader_heeds_the_way_in_from_the_console() -> None:
    """The agent and restore; the farewell loads nothing."""
    for name in ("neti.service", "neti-restore.service", "neti-wireguard.socket"):
        text = (DEPLOY / name).read_text()
        assert "ConditionPathExists=!/etc/neti/disabled\n" in text
        assert "ConditionKernelCommandLine=!neti=off\n" in text


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.name))
def test_maintainer_scripts_are_shell(script: Path) -> None:
    """Debian's sh parses them, and the first failure ends them."""
    subprocess.run(["sh", "-n", str(script)], check=True)
    assert "\nset -e\n" in script.read_text()
