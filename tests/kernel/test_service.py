"""The agent as systemd and Prometheus see it: notifications, the watchdog's food, metrics, log."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.kernel.test_agent_process import CONFIG, line, wait
from tests.support.netns import Net

from neti.control import client
from neti.dataplane import other_table
from neti.dataplane.nftables import NftablesDataplane
from neti.ruleset.objects import FAMILY_TABLE

pytestmark = pytest.mark.kernel


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The other end of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(20)
        yield listening


@pytest.fixture
def agent(net: Net, systemd: socket.socket, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    path = tmp_path / "neti.yml"
    path.write_text(CONFIG.format(folder=tmp_path) + "metrics_listen: 127.0.0.1:9177\n")
    environment = {
        **os.environ,
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "2000000",
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*line(net, path, "agent"), "--log-format", "json"], stderr=log, env=environment
        )
    wait(lambda: client.call(tmp_path / "state", "status")["registered"])
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()


def told(systemd: socket.socket, word: str) -> str:
    """The next message with this word; those before it do not matter."""
    while True:
        message = systemd.recv(65536).decode()
        if word in message:
            return message


def hungry(systemd: socket.socket) -> bool:
    """Fed once more before the time-out."""
    try:
        told(systemd, "WATCHDOG=1")
    except TimeoutError:
        return False
    return True


def test_systemd_is_told_and_the_watchdog_fed(
    agent: "subprocess.Popen[bytes]", systemd: socket.socket
) -> None:
    """Ready when the rules are there; fed by an idle loop too; a reload begins and ends."""
    told(systemd, "READY=1")
    told(systemd, "WATCHDOG=1")
    told(systemd, "WATCHDOG=1")
    agent.send_signal(signal.SIGHUP)
    assert "MONOTONIC_USEC=" in told(systemd, "RELOADING=1")
    told(systemd, "READY=1")
    agent.send_signal(signal.SIGTERM)
    told(systemd, "STOPPING=1")


def test_a_loop_that_hangs_is_not_fed(
    agent: "subprocess.Popen[bytes]", systemd: socket.socket
) -> None:
    """No thread beside the loop keeps systemd quiet."""
    told(systemd, "WATCHDOG=1")
    agent.send_signal(signal.SIGSTOP)
    systemd.settimeout(3)
    fed = 0
    while fed < 3 and hungry(systemd):  # one may have been under way
        fed += 1
    assert fed < 3
    agent.send_signal(signal.SIGCONT)
    systemd.settimeout(20)
    told(systemd, "WATCHDOG=1")


@pytest.mark.usefixtures("agent")
def test_prometheus_and_the_command_get_the_same(net: Net, tmp_path: Path) -> None:
    """Over HTTP and by neti metrics; what happened is counted, and traffic of the kernel's too."""

    def scraped() -> str:
        with urllib.request.urlopen("http://127.0.0.1:9177/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    families = {f.name: f for f in text_string_to_metric_families(net.inside(net.host, scraped))}
    assert [(s.labels, s.value) for s in families["neti_members"].samples] == [({"site": "ec2"}, 1)]
    assert families["neti_registered"].samples[0].value == 1
    applied = [s for s in families["neti_apply_seconds"].samples if s.name.endswith("_count")]
    assert applied[0].value >= 1
    assert {"neti_judged_packets", "neti_admitted_packets", "neti_conntrack_entries"} <= set(
        families
    )
    command = line(net, tmp_path / "neti.yml", "metrics")
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert {f.name for f in text_string_to_metric_families(printed)} == set(families)


def test_counters_are_ours_and_leave_the_sets_alone(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those of another table; and a large fleet does not make a scrape dear."""

    def read() -> tuple[dict[str, int], dict[str, int], int]:
        dataplane = NftablesDataplane()
        told = []
        listed = dataplane._kernel.listed

        def counted(kind: int, *words: Any, **more: Any) -> list[bytes]:
            bodies = listed(kind, *words, **more)
            told.extend(bodies)
            return bodies

        monkeypatch.setattr(dataplane._kernel, "listed", counted)
        none = dataplane.counters()
        members = ", ".join(str(IPv4Address(0x0A000000 + number)) for number in range(16_000))
        ours = (
            f"add table {FAMILY_TABLE}",
            f"add counter {FAMILY_TABLE} judged {{ packets 7 bytes 9 }}",
            f"add counter {FAMILY_TABLE} admitted {{ packets 0 bytes 0 }}",
            f"add set {FAMILY_TABLE} peers4 {{ type ipv4_addr; }}",
            f"add element {FAMILY_TABLE} peers4 {{ {members} }}",
            "add table inet other",
            "add counter inet other judged { packets 1 bytes 1 }",
        )
        other_table.write("\n".join(ours))
        return none, dataplane.counters(), sum(map(len, told))

    none, counters, size = net.inside(net.host, read)
    assert none == {}
    assert counters == {"judged": 7, "admitted": 0}
    assert 0 < size < 1000  # bytes; half a million when every element is fetched


@pytest.mark.usefixtures("agent")
def test_the_log_says_who_commands(net: Net, tmp_path: Path) -> None:
    """By user, process, login and place; looking is not logged."""
    for words in ("status", "relax"):
        subprocess.run(line(net, tmp_path / "neti.yml", words), capture_output=True, check=False)
    lines = [json.loads(text) for text in (tmp_path / "log").read_text().splitlines()]
    commands = [each for each in lines if each["event"] == "command"]
    assert [each["command"] for each in commands] == ["relax"]
    assert commands[0]["uid"] == 0
    assert commands[0]["pid"] > 1
    assert commands[0]["login"]
    assert commands[0]["terminal"]
    assert commands[0]["ssh"]


def test_the_agent_goes_without_prometheus_where_nobody_asks() -> None:
    """The library is loaded for metrics_listen only: it costs memory on every host."""
    code = "import sys, neti.agent.main; sys.exit('prometheus_client' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
