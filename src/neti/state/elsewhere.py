"""A note in the usual state folder that the agent of a configuration keeps its state elsewhere, so
that its commands find it when that configuration is missing or broken.

Only the agent of this machine writes it: the one that systemd starts, or that goes by the usual
configuration. Everybody may read it.

Must never do: lead root into a folder that anybody but the owner of the usual one could have put
there.
"""

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from neti import durable, files

NOTE: Final = "elsewhere.json"
_USUAL_CONFIG: Final = Path("/etc/neti/neti.yml")
_GIVEN: Final = "STATE_DIRECTORY"  # by systemd to a unit with StateDirectory=
_AT_MOST: Final = 16384
_OTHERS_WRITE: Final = 0o022


def keep_note(
    usual: Path, config: Path, folder: Path, environment: Mapping[str, str] = os.environ
) -> None:
    """For an agent that begins by ``config``, with its state in ``folder``. Raises OSError."""
    given = environment.get(_GIVEN, "").split(":")
    if config != _USUAL_CONFIG and str(usual) not in given:
        return
    note = usual / NOTE
    if folder == usual:
        note.unlink(missing_ok=True)
        return
    content = durable.line({"config": _named(config), "folder": str(folder)})
    with contextlib.suppress(OSError):
        if files.read(note, _AT_MOST) == content:
            return
    durable.replace(note, content, 0o644)


def noted(usual: Path, config: Path) -> Path | None:
    """Where the agent of ``config`` had its state when it last began; None: in ``usual``, or that
    is not known. Raises nothing."""
    try:
        held = durable.checked(files.read(usual / NOTE, _AT_MOST))
        folder = Path(str(held["folder"]))
        if held["config"] == _named(config) and _is_safe(folder, usual):
            return folder
    except (OSError, ValueError, KeyError, RuntimeError):
        pass
    return None


def _named(config: Path) -> str:
    """A file that is gone has a name all the same."""
    return str(config.resolve())


def _is_safe(folder: Path, usual: Path) -> bool:
    """The agent's user writes the note, and root goes where it says: only to a folder of that user,
    below folders in which root alone can put another in its place. Raises OSError."""
    held, home = folder.lstat(), usual.stat()
    if not stat.S_ISDIR(held.st_mode) or held.st_uid != home.st_uid:
        return False
    if (held.st_mode | home.st_mode) & _OTHERS_WRITE:
        return False
    return all(_is_roots(above, sticky=above != folder.parent) for above in folder.parents)


def _is_roots(above: Path, *, sticky: bool) -> bool:
    """``sticky``: what is in it belongs to root, so a sticky folder lets nobody else move it."""
    held = above.lstat()
    if not stat.S_ISDIR(held.st_mode) or held.st_uid != 0:
        return False
    return not held.st_mode & _OTHERS_WRITE or (sticky and bool(held.st_mode & stat.S_ISVTX))
