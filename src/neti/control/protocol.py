"""How commands talk to the running agent: one JSON line each way over a Unix socket.

A request is ``{"command", "arguments", "until", "place"}``: ``until`` is when the caller gives up
(CLOCK_MONOTONIC, seconds), ``place`` is where a person typed it. An answer is ``{"result"}`` or
``{"error", "exit_code"}``, with ``"starting"`` from an agent that does not run its loop yet. The
socket (``agent.sock`` in the state folder, mode 0600) is root's alone. Where that folder cannot
take it, as on a disk that is full or read-only, it is in ``/run/neti`` instead.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SOCKET_NAME: Final = "agent.sock"
USUAL_RUN: Final = Path("/run/neti")
RUN: Final = Path(os.environ.get("NETI_RUN") or USUAL_RUN)  # another one for tests
ANSWER_SECONDS: Final = 30.0  # that the loop has for one request
# These change nothing.
LOOKS: Final = frozenset(
    {"status", "members", "metrics", "preview", "callers", "explain", "explain_many", "opened"}
)
WITHOUT_IT: Final = (
    "→ systemctl restart neti\n"
    "→ 'neti relax' and 'neti down' work without it; a running trial ends by itself"
)


def spare_socket(folder: Path) -> Path:
    """The socket of this state folder's agent, where the folder itself has none."""
    digest = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()
    return RUN / f"{digest[:16]}.sock"


@contextlib.contextmanager
def socket_name(path: Path) -> Iterator[str]:
    """A name for the socket that fits sun_path's 108 bytes, however long the folder's is."""
    try:
        number = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        yield str(path)[:100]
        return
    try:
        yield f"/proc/self/fd/{number}/{path.name}"
    finally:
        os.close(number)
