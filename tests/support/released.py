"""Neti as it was last released, out of this clone's own history: what an upgrade begins from.

Must never do: take today's code for a released one where the history is missing.
"""

import subprocess
from pathlib import Path
from typing import Final

import pytest

_CLONE: Final = Path(__file__).resolve().parents[2]
# Used while there is no tag vX.Y.Z: agents of that day are what hosts run.
_BEFORE_THE_FIRST_TAG: Final = "7486a6af4fa8a0457df53b0d7360267a3dca3f09"


def unpack(folder: Path) -> list[str]:
    """Put the released source into ``folder``. Returns what a command line is run with to be that
    version."""
    source = _git("archive", "--format=tar", _commit(), "src")
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=source, check=True)
    return ["env", f"PYTHONPATH={folder / 'src'}"]


def _commit() -> str:
    if not (_CLONE / ".git").exists():
        pytest.skip("this is no clone with a history")
    try:
        return _git("describe", "--tags", "--abbrev=0", "--match=v[0-9]*").decode().strip()
    except subprocess.CalledProcessError:
        pass  # no release yet
    try:
        _git("cat-file", "-e", f"{_BEFORE_THE_FIRST_TAG}^{{commit}}")
    except subprocess.CalledProcessError:
        # A shallow clone of somebody who tries Neti has nothing to upgrade from.
        pytest.skip(
            f"the history of this clone lacks {_BEFORE_THE_FIRST_TAG[:12]}, from which the upgrade "
            "is tried: git fetch --unshallow --tags"
        )
    return _BEFORE_THE_FIRST_TAG


def _git(*words: str) -> bytes:
    return subprocess.run(
        ["git", "-C", str(_CLONE), *words], capture_output=True, check=True
    ).stdout
