"""``neti preview`` as a command, beside a real agent and without one."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kernel.test_agent_process import CONFIG, line, wait
from tests.support import netns
from tests.support.netns import Net, Server, reaches

from neti.control import client

pytestmark = pytest.mark.kernel


class Host:
    """One host: its agent, which can be started and ended, and its commands."""

    def __init__(self, net: Net, folder: Path) -> None:
        self.net = net
        self.state = folder / "state"
        self.config = folder / "neti.yml"
        self.config.write_text(CONFIG.format(folder=folder))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = line(self.net, self.config, "agent")
        self.process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        wait(lambda: bool(client.call(self.state, "status")["registered"]))

    def end(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait()

    def neti(self, *words: str) -> str:
        command = line(self.net, self.config, *words)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def preview(self, *words: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.neti("preview", "--json", *words))
        return document

    def nft(self, text: str) -> None:
        subprocess.run(["ip", "netns", "exec", self.net.host, "nft", text], check=True)


@pytest.fixture
def host(net: Net, tmp_path: Path) -> Iterator[Host]:
    made = Host(net, tmp_path)
    made.start()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def counts(document: dict[str, Any]) -> dict[int, int]:
    return {row["port"]: row["packets"] for row in document["ports"]}


def call(host: Host, port: int, times: int, source: str = netns.STRANGER) -> None:
    for _ in range(times):
        assert reaches(host.net, host.net.outside, netns.PRIVATE, port, source)


def test_the_forgotten_port_is_seen_before_it_hurts(net: Net, host: Host) -> None:
    """Who listens, who uses it, the line that lets it in; and with that line nothing is left."""
    Server(net, net.host, 7000)
    call(host, 7000, 2)
    (row,) = host.preview()["ports"]
    assert row["rank"] == "used"
    assert row["listeners"][0]["process"]
    assert row["listeners"][0]["pid"]
    assert [source["address"] for source in row["top"]] == [netns.STRANGER]
    assert row["open_ports"] == "{port: 7000, from: [10.0.0.66]}"
    text = host.neti("preview")
    assert "nothing is dropped" in text
    assert "open_ports: [{port: 7000, from: [10.0.0.66]}]" in text
    host.config.write_text(
        host.config.read_text()
        + "open_ports: [{port: 7000, from: [10.0.0.66]}]\nreject_all: true\ntrial_seconds: 5\n"
    )
    assert host.process is not None
    host.process.send_signal(signal.SIGHUP)
    wait(lambda: client.call(host.state, "status")["stage"] == "enforced")
    call(host, 7000, 1)
    assert not reaches(net, net.outside, netns.PRIVATE, 7000, netns.ADMIN)
    document = host.preview()
    assert document["stage"] == "enforced"
    assert [source["address"] for source in document["ports"][0]["top"]] == [netns.ADMIN]
    assert "new connections like these are refused" in host.neti("preview")


def test_nothing_is_lost_by_whatever_ends_the_agent_or_the_table(net: Net, host: Host) -> None:
    """Reload, kill -9, SIGTERM, another program's flush, neti down and up: the count goes on."""
    Server(net, net.host, 7000)
    call(host, 7000, 1)
    assert host.process is not None
    host.process.send_signal(signal.SIGHUP)
    call(host, 7000, 1)
    assert counts(host.preview()) == {7000: 2}
    call(host, 7000, 1)
    host.end(signal.SIGKILL)
    call(host, 7000, 1)
    host.start()
    assert counts(host.preview()) == {7000: 4}
    host.end(signal.SIGTERM)
    call(host, 7000, 1)
    host.start()
    assert counts(host.preview()) == {7000: 5}
    host.nft("flush ruleset")
    wait(lambda: "jump record" in _ruleset(net))
    call(host, 7000, 1)
    assert counts(host.preview()) == {7000: 6}
    host.neti("down")
    call(host, 7000, 1)  # nothing of Neti is there to see it
    assert host.preview()["stage"] == "down"
    host.neti("up")
    call(host, 7000, 1)
    assert counts(host.preview()) == {7000: 7}


def _ruleset(net: Net) -> str:
    command = ["ip", "netns", "exec", net.host, "nft", "list", "ruleset"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_without_the_agent_disk_and_kernel_tell(net: Net, host: Host, how: signal.Signals) -> None:
    """It says that the agent is away, and counts what the kernel has seen since."""
    Server(net, net.host, 7000)
    call(host, 7000, 1)
    host.end(how)
    call(host, 7000, 1)
    document = host.preview()
    assert document["agent"] is False
    assert document["stage"] == "shadow"
    assert counts(document) == {7000: 2}
    assert host.neti("preview").startswith("The agent does not answer")
    host.nft("delete table inet neti")
    document = host.preview()
    assert document["stage"] == "down"
    assert counts(document) == ({7000: 1} if how is signal.SIGTERM else {})


@pytest.mark.parametrize(("stage", "timeout"), [("trial", " timeout 5m"), ("enforced", "")])
def test_without_the_agent_the_kernel_tells_the_stage(host: Host, stage: str, timeout: str) -> None:
    """Whoever looks for what is refused must not be told that nothing is dropped."""
    host.end(signal.SIGKILL)
    verdicts = ", ".join(f"{family}{timeout} : drop" for family in ("ipv4", "ipv6"))
    host.nft(f"add element inet neti enforce {{ {verdicts} }}")
    assert host.preview()["stage"] == stage
    assert f"Stage {stage}: new connections like these are refused" in host.neti("preview")


def test_accepted_losses_reach_the_agent(net: Net, host: Host) -> None:
    """Said by the command, shown by the agent; kept over its restart."""
    Server(net, net.host, 7000)
    call(host, 7000, 1)
    host.neti("preview", "--accept-losing", "7000/tcp")
    assert host.preview()["ports"][0]["accepted"] is True
    host.end(signal.SIGKILL)
    host.start()
    assert list(host.preview()["accepted"]) == ["7000/tcp"]


def test_noise_is_one_line_with_the_agent_too(net: Net, host: Host) -> None:
    """A port scan from outside the site's ranges: counted, and listed when asked for."""
    Server(net, net.host, 7000)
    call(host, 7000, 1)
    inside = ["ip", "-n", net.outside, "address", "add", "192.0.2.7/32", "dev", "eth0"]
    subprocess.run(inside, check=True)
    back = ["ip", "-n", net.host, "route", "add", "192.0.2.7/32", "dev", "eth0"]
    subprocess.run(back, check=True)
    for port in range(20, 30):
        with pytest.raises(ConnectionRefusedError):
            reaches(net, net.outside, netns.PRIVATE, port, "192.0.2.7")
    document = host.preview()
    assert counts(document) == {7000: 1}
    assert document["noise"] == {"ports": 10, "sources": 1, "packets": 10}
    everything = host.preview("--all")
    assert [row["port"] for row in everything["ports"]] == [7000, *range(20, 30)]
