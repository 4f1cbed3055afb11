"""What the agent tells systemd, and when."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from neti.host.systemd import Watchdog, notify


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listening:
        listening.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def heard(systemd: socket.socket) -> list[bytes]:
    lines = []
    while True:
        try:
            lines.append(systemd.recv(4096))
        except BlockingIOError:
            return lines


def test_a_message_is_one_datagram(systemd: socket.socket) -> None:
    """As sd_notify(3) has it."""
    notify("READY=1", "STATUS=in step; 7 members")
    assert heard(systemd) == [b"READY=1\nSTATUS=in step; 7 members"]


def test_the_watchdog_is_fed_by_turns_but_not_by_each(systemd: socket.socket) -> None:
    """A quarter of the period apart; a busy fleet does not make systemd busy."""
    watchdog = Watchdog({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())})
    assert watchdog.patience == 30.0
    for now in (100.0, 100.1, 114.9, 115.0, 130.0):
        watchdog.feed(now)
    assert heard(systemd) == [b"WATCHDOG=1"] * 3


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}],
)
def test_nobody_is_fed_who_does_not_watch(
    systemd: socket.socket, environment: dict[str, str]
) -> None:
    """Then the loop waits as long as it likes."""
    watchdog = Watchdog(environment)
    watchdog.feed(1.0)
    assert watchdog.patience == float("inf")
    assert heard(systemd) == []
