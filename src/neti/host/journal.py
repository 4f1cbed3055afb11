"""The last lines of a unit in systemd's journal. Reads, see journalctl(1)."""

import os
import shutil
import subprocess
from typing import Final

from neti.errors import NetiError
from neti.words import why

_LINES: Final = 2000
_SECONDS: Final = 10.0


def last_lines(unit: str) -> str:
    """Raises NetiError where there is no journal, or it cannot be read within ten seconds."""
    # With an empty PATH exec(3) would take one of the working directory, which may be anybody's.
    program = shutil.which("journalctl") or shutil.which("journalctl", path=os.defpath)
    if program is None:
        raise NetiError("the journal cannot be read: there is no journalctl here")
    command = [
        program,
        "--no-pager",
        "--output=short-iso",
        f"--lines={_LINES}",
        "--unit",
        unit,
    ]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetiError(f"the journal cannot be read: {why(error)}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise NetiError(f"the journal cannot be read: {said or f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace")
