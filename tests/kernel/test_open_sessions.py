"""A typing error in ssh_whitelist on an enforced host, while its author's SSH session is open."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kernel.test_agent_process import Neti, agent, config, line, neti, wait
from tests.support import netns
from tests.support.netns import Net, Server

from neti.control import client

pytestmark = pytest.mark.kernel

__all__ = ["agent", "config", "neti"]


@pytest.fixture
def typo(
    net: Net, agent: "subprocess.Popen[bytes]", config: Path, tmp_path: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """Enforced, the operator in, and the file edited."""
    client.call(tmp_path / "state", "enforce", seconds=60, wait=True)
    client.call(tmp_path / "state", "confirm")
    Server(net, net.host, 22)
    session = netns.connect(net, net.outside, netns.PRIVATE, 22, netns.ADMIN)
    assert netns.alive(session)
    config.write_text(config.read_text().replace("10.0.0.77/32", "10.0.0.177/32"))
    yield agent
    session.close()


def told(state: Path) -> str:
    problems = client.call(state, "status")["problems"]
    return " ".join(one["sentence"] for one in problems if one["code"] == "reload")


def test_the_session_goes_on_to_have_a_way_in(
    net: Net, typo: "subprocess.Popen[bytes]", neti: Neti, config: Path, tmp_path: Path
) -> None:
    """By command, by SIGHUP and by a restart; until somebody says that it is meant."""
    state = tmp_path / "state"
    refused = neti("reload")
    assert refused.returncode == 1
    assert f"the open SSH session {netns.ADMIN}" in refused.stderr
    typo.send_signal(signal.SIGHUP)
    wait(lambda: "neti reload --anyway" in told(state))
    assert netns.reaches(net, net.outside, netns.PRIVATE, 22, netns.ADMIN)

    typo.send_signal(signal.SIGTERM)
    typo.wait()
    assert "using the last valid one" in neti("restore").stderr
    assert netns.reaches(net, net.outside, netns.PRIVATE, 22, netns.ADMIN)
    again = subprocess.Popen(line(net, config, "agent"), stderr=subprocess.DEVNULL)
    try:
        wait(lambda: client.call(state, "status")["registered"])
        assert "edited while no agent ran" in told(state)
        assert client.call(state, "status")["stage"] == "enforced"
        assert netns.reaches(net, net.outside, netns.PRIVATE, 22, netns.ADMIN)
        assert neti("reload").returncode == 1

        assert neti("reload", "--anyway").returncode == 0
        assert told(state) == ""
        assert not netns.reaches(net, net.outside, netns.PRIVATE, 22, netns.ADMIN)
    finally:
        again.kill()
        again.wait()
