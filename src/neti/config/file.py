"""The file's bytes to text. Reads at most 4 MiB, changes nothing, and says why it fails."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neti.errors import ConfigError
from neti.words import why

MAX_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    text: str
    readable_by_all: bool
    writable_by_all: bool


def read(path: Path) -> Content:
    """The file's content; raises ConfigError. The mode is that of the file that was read."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MAX_BYTES + 1)
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
