"""The last lines of a unit in systemd's journal. Reads, see journalctl(1)."""

import shutil
import subprocess
from typing import Final

from neti.errors import NetiError
from neti.words import why

_LINES: Final = 2000
_PLACES: Final = "/usr/bin:/bin"
_SECONDS: Final = 10.0


def last_lines(unit: str) -> str:
    """Raises NetiError where there is no journal, or it cannot be read within ten seconds."""
    command = [
        # Whatever PATH is here, or is not.
        shutil.which("journalctl", path=_PLACES) or "journalctl",
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
