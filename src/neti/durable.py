"""Files that a kill or power cut at any instruction leaves either old or new, never between.

Lines carry a checksum, so that a torn or edited one is recognised. A file is replaced by one
written next to it. Raises OSError and ValueError; the caller says which file it was.
"""

import contextlib
import json
import os
import zlib
from pathlib import Path
from typing import Any, Final

from neti import files

# Made once, and not for each line: a journal has one for each member.
_AS_TEXT: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def line(document: dict[str, Any]) -> bytes:
    text = _AS_TEXT(document).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def checked(written: bytes) -> dict[str, Any]:
    """What ``line`` wrote; ValueError if it was torn or edited."""
    if not written.endswith(b"\n"):
        raise ValueError("torn")
    checksum, _, text = written[:-1].partition(b" ")
    if int(checksum, 16) != zlib.crc32(text):
        raise ValueError("edited")
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("not a mapping")
    return document


def replace(path: Path, content: bytes, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Replaces the file atomically, and durably even after a power cut. ``owner``: user and group,
    if the folder's are not to be the file's."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    number = files.create(beside, os.O_WRONLY, mode)
    try:
        with os.fdopen(number, "wb") as file:
            if owner is not None:
                os.fchown(number, *owner)
            file.write(content)
            file.flush()
            os.fsync(number)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()  # a partial file must not take up space
        raise
    beside.replace(path)
    sync_folder(path.parent)  # the rename itself


def sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
