"""``neti hosts``: keeps the fleet's lines in a hosts file.

Must never do: leave half a file, or change a line that is not Neti's.
"""

import stat
from pathlib import Path
from typing import Final

from neti import durable, files
from neti.errors import NetiError
from neti.fleet import hosts_file
from neti.words import why

_AT_MOST: Final = 32 << 20


def held(path: Path) -> dict[str, str]:
    """Which name of Neti's lines stands for which address. Raises NetiError."""
    try:
        return hosts_file.held(files.read(path.resolve(), _AT_MOST).decode("utf-8", "replace"))
    except hosts_file.MarkersBroken as error:
        raise NetiError(f"{path} is not changed: {error}") from error
    except OSError as error:
        raise NetiError(f"{path} is not changed: {why(error)}") from error


def rewrite(path: Path, lines: list[str]) -> bool:
    """Put these lines between Neti's markers; no lines: the markers go too. Whether the file had
    to be changed. Raises NetiError; the file is then as it was."""
    target = path.resolve()
    try:
        before = files.read(target, _AT_MOST)
        text = before.decode("utf-8", "surrogateescape")
        after = hosts_file.merged(text, lines).encode("utf-8", "surrogateescape")
        if after == before:
            return False
        _replace(target, after)
    except hosts_file.MarkersBroken as error:
        raise NetiError(f"{path} is not changed: {error}") from error
    except OSError as error:
        raise NetiError(f"{path} is not changed: {why(error)}") from error
    return True


def _replace(path: Path, content: bytes) -> None:
    """By a file of the same mode and owner. Raises OSError."""
    held = path.stat()
    mode = stat.S_IMODE(held.st_mode)
    durable.replace(path, content, mode, owner=(held.st_uid, held.st_gid))
