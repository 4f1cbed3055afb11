"""A process of this machine, for sentences about one that does not answer.

Must never do: fail.
"""

import re
import socket
import struct
from pathlib import Path
from typing import Final

_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED
# Third field of /proc/PID/stat: proc_pid_stat(5).
_STATE: Final = re.compile(rb"[0-9]+ \(.*\) ([A-Za-z])", re.DOTALL)
_IN_WORDS: Final = {
    "T": "stopped by a signal",
    "t": "stopped by a debugger",
    "D": "waiting for a disk",
}
STOPPED: Final = "T"


def listener_of(connection: socket.socket) -> int | None:
    """The process that listens at the other end of a connected Unix socket; None: it cannot be
    told, as where it is in a container of its own."""
    try:
        held = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid: int = _CREDENTIALS.unpack(held)[0]
    except (OSError, struct.error):
        return None
    return pid or None


def state_of(pid: int) -> str:
    """As in /proc; empty: it is gone, or cannot be told."""
    try:
        found = _STATE.match(Path(f"/proc/{pid}/stat").read_bytes())
    except OSError:
        return ""
    return found[1].decode() if found is not None else ""


def in_words(pid: int, state: str) -> str:
    """``process 812``, and what keeps it from running, if anything does."""
    why = _IN_WORDS.get(state)
    return f"process {pid}, {why}" if why is not None else f"process {pid}"
