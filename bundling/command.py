"""Programs of the machine that builds."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from bundling import BundleError


def run(
    words: Sequence[object], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """``words``: as ``str`` has them. What it printed. Raises BundleError with what it said if it
    fails."""
    command = [str(word) for word in words]
    if shutil.which(command[0]) is None:
        raise BundleError(f"{command[0]} is missing: scripts/system-packages bundle")
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=env, cwd=cwd, errors="replace"
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise BundleError(f"{' '.join(command[:4])} … failed (code {done.returncode}): {said}")
    return done.stdout
