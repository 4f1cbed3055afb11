"""sd_notify(3) without a library: one datagram to the socket that systemd names. Quietly nothing
when there is none."""

import contextlib
import os
import socket
import time


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
