"""Who changes something, and from where; one line to the system's journal where no agent is told.

The command finds its own place, as root: an agent with a user of its own may not read whose sshd
it runs below.

Must never do: fail, or keep a command waiting.
"""

import contextlib
import os
import socket
from pathlib import Path
from typing import Any, Final

from neti import log

_SYSLOG: Final = Path("/dev/log")
_NOTICE: Final = 3 << 3 | 5  # facility daemon, severity notice: syslog(3)
_PATIENCE: Final = 0.5  # seconds for a syslog whose queue is full
_NO_LOGIN: Final = 2**32 - 1
_TERMINALS: Final = {4: "tty", **dict.fromkeys(range(136, 144), "pts/")}  # by major number


def note(command: str, **what: Any) -> None:
    """What a command has changed without an agent that would log it, in the agent's own words."""
    pid = os.getpid()
    who = {"uid": os.getuid(), "pid": pid, "login": login(pid)}
    line = log.line("command", {"command": command, **who, **place(), **what})
    message = f"<{_NOTICE}>neti[{pid}]: {line}".encode("utf-8", "replace")
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as syslog:
            syslog.settimeout(_PATIENCE)
            syslog.connect(str(_SYSLOG))
            syslog.sendall(message + b"\0" * (kind == socket.SOCK_STREAM))
            return


def described() -> str:
    """Who types this command and from where, as the disk keeps it for people."""
    who = {"uid": os.getuid(), "pid": os.getpid(), "login": login(os.getpid())}
    return ", ".join(f"{key} {value}" for key, value in {**who, **place()}.items())


def login(pid: int) -> str:
    """Who logged in, before any sudo; 'none' for a service, or where it cannot be seen."""
    try:
        number = int(Path(f"/proc/{pid}/loginuid").read_text())
    except (OSError, ValueError):
        return "none"
    return "none" if number == _NO_LOGIN else str(number)


def place() -> dict[str, str]:
    """From where this command was typed: its terminal, and the SSH client's address and port."""
    found = {"terminal": "none", "ssh": "none"}
    with contextlib.suppress(Exception):  # whatever /proc holds: it is only for the record
        found["terminal"] = _terminal()
    with contextlib.suppress(Exception):
        found["ssh"] = _ssh_client()
    return found


def _terminal() -> str:
    stat = Path("/proc/self/stat").read_text(errors="replace")
    number = int(stat.rpartition(")")[2].split()[4])
    if number == 0:
        return "none"
    major, minor = os.major(number), os.minor(number)
    kind = _TERMINALS.get(major)
    if kind is None or (kind == "tty" and minor >= 64):  # a serial line, most likely
        return Path(f"/sys/dev/char/{major}:{minor}").resolve(strict=True).name
    return f"{kind}{minor + 256 * (major - 136) if kind == 'pts/' else minor}"


def _ssh_client() -> str:
    from neti.host.ssh_session import find

    session = find()
    if session is None:
        return "none"
    doubt = "" if session.sure else " (not sure)"
    return f"{session.client} port {session.client_port}{doubt}"
