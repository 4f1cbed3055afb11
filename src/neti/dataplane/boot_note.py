"""A note in the state folder of what was changed in the kernel, to be changed back.

It is about one boot: after a reboot the kernel has the machine's own values again.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from neti import durable, files
from neti.clock import boot_id
from neti.errors import DataplaneError

_AT_MOST: Final = 1 << 20  # bytes
T = TypeVar("T")


class NoteTorn(DataplaneError):
    """What was changed is not known any more, if it was in this boot."""


class BootNote:
    """Root and the agent's own user both write it. Not thread-safe. Raises DataplaneError when the
    disk refuses. ``by_hand``: what an operator does instead where the note cannot be used."""

    def __init__(self, path: Path, boot: Path, by_hand: str) -> None:
        self._path = path
        self._boot = boot
        self._by_hand = by_hand

    def read(self, parsed: Callable[[dict[str, Any]], T], nothing: T) -> T:
        """``nothing``: there is no note of this boot. ``parsed`` may raise ValueError, KeyError,
        TypeError and AttributeError: the note is not as it was written. Raises NoteTorn then, and
        where the disk does not give it."""
        try:
            held: dict[str, Any] = json.loads(files.read(self._path, _AT_MOST))
            return parsed(held) if held.pop("boot") == self._this_boot() else nothing
        except FileNotFoundError:
            return nothing
        except OSError as error:
            raise NoteTorn(f"{self._path}: cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NoteTorn(
                f"{self._path}: not readable as what Neti wrote there: remove it, and "
                f"{self._by_hand}"
            ) from error

    def write(self, document: Mapping[str, Any]) -> None:
        content = json.dumps({"boot": self._this_boot(), **document}).encode()
        try:
            durable.replace(self._path, content, 0o644)
        except OSError as error:
            raise DataplaneError(f"{self._path}: cannot be written: {error.strerror}") from error

    def remove(self) -> None:
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise DataplaneError(f"{self._path}: cannot be removed: {error.strerror}") from error

    def _this_boot(self) -> str:
        try:
            return boot_id(self._boot)
        except OSError:
            return ""
