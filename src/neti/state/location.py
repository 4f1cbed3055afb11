"""Where the agent's state is, for commands that must work with a broken configuration.

The line ``table_files_path`` is looked for in the file as text. Only where that says nothing
certain is the file read as the configuration it should be. If that is not possible either, the note
counts that its agent left in the usual folder (``neti.state.elsewhere``).

Must never do: make a folder, wait for a pipe, or need a library to be there.
"""

import re
from pathlib import Path
from typing import Final

from neti import files
from neti.config.file import writable_by_all
from neti.state import elsewhere

DEFAULT_STATE: Final = Path("/var/lib/neti")
GOOD_CONFIG: Final = "neti.yml.good"  # the agent's copy of the file that is in force
_AT_MOST: Final = 4 << 20
_LINE: Final = re.compile(
    rb"^[ \t]*[\"']?table_files_path[\"']?[ \t]*:[ \t]+[\"']?(/[^\"'#\s]*)", re.MULTILINE
)


def named_in(config: Path) -> Path | None:
    """What the file's line says, be the rest as it may."""
    try:
        found = _LINE.search(files.read(config.resolve(), _AT_MOST))
    except (OSError, RuntimeError):  # a link that leads to itself
        return None
    return None if found is None else Path(found[1].decode(errors="surrogateescape"))


def in_force(config: Path) -> Path | None:
    """The folder of the agent that has this very file in force, by its own copy there: then nobody
    needs a schema to know that it is valid, for an agent of the same version that answers. None: it
    is another file, this user may not compare them, or others than the folder's owner and root may
    have put the copy there, and the socket that answers."""
    folder = named_in(config) or noted(config) or DEFAULT_STATE
    try:
        if writable_by_all(folder) or not _is_its_owners(folder):
            return None
        content = files.read(config.resolve(), _AT_MOST)
        same = files.read(folder / GOOD_CONFIG, len(content)) == content
    except (OSError, RuntimeError):
        return None
    return folder if same and content else None


def _is_its_owners(folder: Path) -> bool:
    """Whether the copy is the folder's owner's, or root's. Raises OSError."""
    return (folder / GOOD_CONFIG).lstat().st_uid in {0, folder.stat().st_uid}


def is_guessed(config: Path) -> bool:
    """Whether ``state_folder`` could not look into the file: it is not there, or not for this user
    to read. An agent that runs by it may have its state elsewhere."""
    return not is_plain(config) and noted(config) is None


def is_plain(config: Path) -> bool:
    """Whether reading the file can neither wait nor go on for ever."""
    try:
        files.read(config.resolve(), _AT_MOST)
    except (OSError, RuntimeError):
        return False
    return True


def noted(config: Path) -> Path | None:
    """Where the agent of this file said that its state is; None: it said nothing."""
    return elsewhere.noted(DEFAULT_STATE, config)


def state_folder(config: Path) -> Path:
    """Raises nothing."""
    if (named := named_in(config)) is not None:
        return named
    said = noted(config)
    return _read_as_configuration(config, anyway=said is not None) or said or DEFAULT_STATE


def _read_as_configuration(config: Path, *, anyway: bool) -> Path | None:
    """For a file that says it otherwise than on a line of its own. ``anyway``: also where it says
    nothing, because a valid one then means the usual folder."""
    try:
        content = files.read(config.resolve(), _AT_MOST)  # which a pipe refuses, and never waits
        if not anyway and b"table_files_path" not in content:
            return None
        from neti.config import load

        return load(config).table_files_path
    except Exception:  # a broken file, or a broken library: then it is where it usually is
        return None
