"""Programs whose time-outs are real go before what only computes, other tests and a busy neighbour.

What they show is Neti's, not how much of the machine they were given. Must never do: keep a program
from running where the right to a better place is missing.
"""

import contextlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_NICE = "-10"


def started_in_front(command: Sequence[str], **options: Any) -> "subprocess.Popen[str]":
    """A Popen of text. It and its children have a session of their own, because where Linux groups
    processes by session (sched(7), autogroups) only a group's place counts among others."""
    words = ["nice", "-n", _NICE, *command] if os.geteuid() == 0 else list(command)
    process = subprocess.Popen(words, text=True, start_new_session=True, **options)
    with contextlib.suppress(OSError):
        Path(f"/proc/{process.pid}/autogroup").write_text(_NICE)
    return process


def run_in_front(
    command: Sequence[str], seconds: float, **options: Any
) -> "subprocess.CompletedProcess[str]":
    """As ``subprocess.run``, its output caught."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with started_in_front(command, **pipes) as process:
        try:
            said, complained = process.communicate(timeout=seconds)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, said, complained)
