"""The file's bytes to text. Reads at most 4 MiB, changes nothing, and says why it fails."""

import contextlib
import os
import select
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neti.errors import ConfigError
from neti.words import why

MAX_BYTES: Final = 4 * 1024 * 1024
# Python makes room for as much as is asked for, before it knows how much there is.
_PIECE: Final = 1024 * 1024
_PATIENCE: Final = 5.0  # seconds for the next piece of a pipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    text: str
    readable_by_all: bool
    writable_by_all: bool


def read(path: Path) -> Content:
    """The file's content; raises ConfigError. The mode is that of the file that was read."""
    try:
        mode, content = _bytes(path)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist: expected a configuration (start from "
            "/etc/neti/neti.yml.example, in Neti's source deploy/neti.yml.example, or name "
            "another file with -c)"
        ) from None
    except IsADirectoryError:
        raise ConfigError(
            f"{path} is a directory: expected a file such as {path}/neti.yml"
        ) from None
    except PermissionError:
        raise ConfigError(
            f"{path} cannot be read by this user: run this as root, or let the agent's user read "
            f"it: chgrp neti {path} && chmod 640 {path}"
        ) from None
    except _NobodyWrites:
        raise ConfigError(
            f"{path} is a pipe or a terminal on which nothing came for {_PATIENCE:.0f} seconds: "
            "expected a file"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ConfigError(f"{path} cannot be read: {why(error)}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"{path} is larger than {MAX_BYTES >> 20} MiB: expected a short YAML file"
        )
    regular = stat.S_ISREG(mode)
    return Content(
        text=_decoded(content, path),
        readable_by_all=regular and bool(mode & stat.S_IROTH),
        writable_by_all=regular and bool(mode & stat.S_IWOTH),
    )


def _bytes(path: Path) -> tuple[int, bytes]:
    """The mode and the content, which may be one byte too long. A pipe (``-c /dev/stdin``) is read
    to its end, but never waited for without limit."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(number).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError
        parts, left = [], MAX_BYTES + 1
        while left > 0 and (part := _piece(number, min(left, _PIECE))):
            parts.append(part)
            left -= len(part)
        if not parts and stat.S_ISFIFO(mode):
            raise _NobodyWrites  # without a writer, a pipe is at its end at once
    finally:
        os.close(number)
    return mode, b"".join(parts)


def _piece(number: int, size: int) -> bytes:
    while True:
        with contextlib.suppress(BlockingIOError):
            return os.read(number, size)
        if not select.select([number], [], [], _PATIENCE)[0]:
            raise _NobodyWrites


class _NobodyWrites(Exception):
    pass


def _decoded(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}:{line}: byte 0x{content[error.start]:02x} is not UTF-8: expected a file "
            "saved as UTF-8"
        ) from None


def writable_by_all(folder: Path) -> bool:
    """Whether everyone may create files in the folder; False if it does not exist."""
    try:
        mode = folder.stat().st_mode
    except (OSError, ValueError):
        return False
    return bool(mode & stat.S_IWOTH)
