"""The program ``neti``, and ``python -m neti``.

Must never: end in a traceback because somebody types Ctrl-C while Python still imports.
"""

import contextlib
import os
import sys


def main() -> None:
    try:
        _be_named()
        from neti.cli import main as command

        command()
    except KeyboardInterrupt:
        os.write(2, b"neti: stopped by Ctrl-C\n")
        sys.exit(130)


def _be_named() -> None:
    """The kernel tells each agent who changed the rules by this name. A package starts
    ``python3``; see proc_pid_comm(5)."""
    with contextlib.suppress(OSError), open("/proc/thread-self/comm", "wb") as name:
        name.write(b"neti")


if __name__ == "__main__":
    main()
