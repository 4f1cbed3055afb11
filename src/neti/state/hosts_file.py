"""The hosts file of the fleet's names, which everybody on this machine may read: a resolver serves
it, and no other program writes it.

Must never do: leave half of it, or follow a link that stands in its place.
"""

from pathlib import Path
from typing import Final

from neti import durable, files
from neti.errors import NetiError
from neti.fleet.names import NOBODY
from neti.state.loaded import StateError
from neti.state.location import DEFAULT_STATE
from neti.words import why

NAME: Final = "hosts"
AT_MOST: Final = 8 << 20
_MODE: Final = 0o644
_FOLDER_MODE: Final = 0o755


def place(folder: Path, run: Path) -> Path:
    """For the agent whose state is in ``folder``: in ``run``, or where the state is not in its
    usual folder, beside it, because several agents may run on one machine."""
    return (run if folder == DEFAULT_STATE else folder) / NAME


class HostsFile:
    """One agent's. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: tuple[bytes, tuple[int, ...] | None] | None = None

    def keep(self, content: bytes) -> None:
        """Written only if it says something else. Raises StateError; the file is then as it was."""
        if self._written == (content, self._stamp()):
            return
        try:
            if self._held() != content:
                self.path.parent.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
                durable.replace(self.path, content, _MODE)
        except OSError as error:
            raise StateError(f"{self.path}: cannot be written: {why(error)}") from error
        self._written = content, self._stamp()

    def altered(self) -> bool:
        """Whether it is not there any more as it was written. It costs one look at the file."""
        return self._written is not None and self._written[1] != self._stamp()

    def _held(self) -> bytes | None:
        try:
            return files.read(self.path, AT_MOST)
        except OSError:
            return None

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            held = self.path.lstat()
        except OSError:
            return None
        return held.st_ino, held.st_mtime_ns, held.st_size, held.st_mode


def empty(path: Path) -> None:
    """It names nobody from now on. Where no agent keeps one, none is made. Raises NetiError."""
    if path.is_file():
        HostsFile(path).keep("".join(f"{line}\n" for line in NOBODY).encode())


def read(path: Path) -> list[tuple[str, list[str]]]:
    """By line the address and its names. Raises NetiError."""
    try:
        text = files.read(path, AT_MOST).decode(errors="replace")
    except OSError as error:
        raise NetiError(f"{path}: {why(error)}") from error
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return [(words[0], words[1:]) for words in lines if words]
