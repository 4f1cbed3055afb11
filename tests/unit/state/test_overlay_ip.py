"""``neti overlay-ip``: what configuration management asks must answer, whatever the agent does."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from neti.cli import cli
from neti.control import client
from neti.control.protocol import SOCKET_NAME
from neti.identity.machine import fingerprint
from neti.state.folder import StateFolder
from neti.state.records import Self


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "neti.yml"
    path.write_text(
        f"registry: embedded:{tmp_path}/registry.db\n"
        f"table_files_path: {tmp_path}/state\n"
        "site: ec2\n"
        "identity: {id: a, private: 10.0.0.5}\n"
    )
    folder = StateFolder(tmp_path / "state")
    folder.load(fingerprint())
    folder.save_self(Self(overlay="192.168.0.7"))
    return path


@pytest.fixture
def hung_agent(config: Path) -> Iterator[None]:
    """An agent that takes every question and answers none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(config.parent / "state" / SOCKET_NAME))
        listener.listen(8)
        yield


def overlay_ip(config: Path) -> Result:
    return CliRunner().invoke(cli, ["overlay-ip", "-c", str(config)])


def test_without_an_agent_the_address_is_what_it_kept_on_disk(config: Path) -> None:
    """A lease outlives its agent."""
    asked = overlay_ip(config)
    assert (asked.exit_code, asked.stdout) == (0, "192.168.0.7\n")


@pytest.mark.usefixtures("hung_agent")
def test_an_agent_that_hangs_costs_two_seconds_and_not_the_answer(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a minute for each host would stop a run over a fleet."""
    call, given = client.call, []

    def noted(folder: Path, command: str, *, within: float) -> object:
        given.append(within)
        return call(folder, command, within=within)

    monkeypatch.setattr(client, "call", noted)
    asked = overlay_ip(config)
    assert (asked.exit_code, asked.stdout) == (0, "192.168.0.7\n")
    assert given == [2.0]
