"""sd_notify(3) without a library: one datagram to the socket that systemd names. Quietly nothing
when there is none."""

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

_FEED_EVERY: Final = 4  # times in the period that systemd waits for


def notify(*lines: str) -> None:
    """For instance ``notify("READY=1", "STATUS=16382 members")``."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    name = "\0" + address[1:] if address.startswith("@") else address
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
    ):
        sock.sendto("\n".join(lines).encode(), name)


def notify_reloading() -> None:
    """Type=notify-reload wants the monotonic time of the reload's beginning."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


class Watchdog:
    """systemd ends this process when it is not fed for so long. Only the loop feeds it, and not a
    timer's thread: what is watched is that the loop still turns."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._period = _period(environment)
        self._fed_at: float | None = None

    @property
    def patience(self) -> float:
        """The loop may wait so many seconds at most."""
        return self._period / 2 if self._period else float("inf")

    def feed(self, now: float) -> None:
        """The loop has made a turn, at ``now`` (monotonic)."""
        if not self._period:
            return
        if self._fed_at is None or now - self._fed_at >= self._period / _FEED_EVERY:
            self._fed_at = now
            notify("WATCHDOG=1")


def _period(environment: Mapping[str, str]) -> float:
    """Seconds; 0 when nobody watches this process (sd_watchdog_enabled(3))."""
    try:
        if int(environment.get("WATCHDOG_PID", os.getpid())) != os.getpid():
            return 0.0
        return max(0, int(environment.get("WATCHDOG_USEC", 0))) / 1_000_000
    except ValueError:
        return 0.0
