"""The names of the operators' groups that this host's agent follows, from its file: for a shell.

Must never do: wait for an agent or a registry, or read the configuration.
"""

from pathlib import Path
from typing import Final

from neti import durable, files

_FILE: Final = "groups.json"  # neti.state.folder has it too, and imports a great deal
_AT_MOST: Final = 4 << 20


def on_disk(folder: Path) -> list[str]:
    """Raises OSError, ValueError, KeyError: they are not known."""
    followed = durable.checked(files.read(folder / _FILE, _AT_MOST))
    return list(followed["groups"]["lines"])
