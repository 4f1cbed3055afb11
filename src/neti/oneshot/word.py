"""What a command leaves on disk for an agent that does not answer, or that has not run yet.

Must never do: raise, or import a library that may be missing or broken before it is needed.
"""

import os
from contextlib import suppress
from pathlib import Path

from neti.model.said import Said
from neti.state import marks
from neti.state.location import is_plain


def leave(config: Path, folder: Path, mark: str, said: Said) -> str | None:
    """Why it could not be written; None: it is on disk."""
    try:
        marks.leave(folder, mark, said)
    except OSError as error:
        if _in_a_new_folder(config, folder, mark, said):
            return None
        return f"{folder / mark}: {error.strerror or error}"
    return None


def _in_a_new_folder(config: Path, folder: Path, mark: str, said: Said) -> bool:
    """Where no agent has run yet, by a valid configuration: the first one is to find the word."""
    if os.path.lexists(folder) or not is_plain(config):
        return False
    with suppress(Exception):  # whatever is wrong with the file or its reader
        from neti.config import load
        from neti.state.folder import StateFolder

        if load(config).table_files_path == folder:
            marks.leave(StateFolder(folder).path, mark, said)
            return True
    return False
