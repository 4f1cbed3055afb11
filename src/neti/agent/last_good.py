"""The configuration that was last in force, where the file is not valid any more: an edit that
went wrong must not take away the ways to look, to get back in, and to restore at boot.
"""

import dataclasses
import re
from pathlib import Path
from typing import Final

from neti.agent.state import GOOD_CONFIG, StateFolder
from neti.config import load
from neti.errors import ConfigError
from neti.settings import DEFAULT_STATE, Settings

# Of a file that is not YAML perhaps: the line, as whoever wrote it meant it.
_STATE_LINE: Final = re.compile(rb"^table_files_path:\s*[\"']?(/[^\"'#\s]+)", re.MULTILINE)


def load_or_last_good(
    config: Path, state: Path = DEFAULT_STATE
) -> tuple[Settings, ConfigError | None]:
    """As ``neti.config.load``; where that refuses the file, the last good copy and the refusal.

    The copy is looked for where the file's line ``table_files_path`` says, then in ``state``.
    Raises the ConfigError when there is no copy that this user may read.
    """
    try:
        return load(config), None
    except ConfigError as refused:
        for folder in (_named_in(config), state):
            try:
                # Looked for as it is: nothing is made where an invalid file leads.
                if folder is not None and (folder / GOOD_CONFIG).is_file():
                    settings = load(StateFolder(folder, make=False).good_config)
                    return dataclasses.replace(settings, path=config), refused
            except (ConfigError, OSError):
                continue
        raise


def last_good_is_used(refused: ConfigError) -> str:
    first, *more = str(refused).splitlines()
    rest = f" and {len(more)} more lines, see 'neti config check'" if more else ""
    return f"the configuration is not valid ({first}{rest}): used the last one that was"


def _named_in(config: Path) -> Path | None:
    try:
        found = _STATE_LINE.search(config.read_bytes())
    except OSError:
        return None
    return None if found is None else Path(found[1].decode(errors="surrogateescape"))
