"""The configuration that was last in force, where the file is not valid any more: an edit that
went wrong must not take away the ways to look, to get back in, and to restore at boot.
"""

import dataclasses
import stat
from pathlib import Path

from neti.config import load
from neti.errors import ConfigError
from neti.model.settings import DEFAULT_STATE, Settings
from neti.state.folder import StateFolder
from neti.state.loaded import StateError
from neti.state.location import GOOD_CONFIG, named_in, noted
from neti.words import counted


def load_or_last_good(
    config: Path, state: Path = DEFAULT_STATE
) -> tuple[Settings, ConfigError | None]:
    """As ``neti.config.load``; where that refuses the file, the last good copy and the refusal.

    The copy is looked for where the file's line ``table_files_path`` says, where the agent noted
    that its state is, then in ``state``.
    Raises the ConfigError when there is no copy that this user may read.
    """
    try:
        return load(config), None
    except ConfigError as refused:
        for folder in (named_in(config), noted(config), state):
            try:
                # Looked for as it is: nothing is made where an invalid file leads.
                if folder is not None and _is_a_file(folder / GOOD_CONFIG):
                    settings = load(StateFolder(folder, make=False).good_config)
                    # The copy is the agent's user's, and root writes where the settings lead: so it
                    # leads nowhere but to where it was found.
                    return (
                        dataclasses.replace(settings, path=config, table_files_path=folder),
                        refused,
                    )
            except (ConfigError, StateError, OSError):
                continue  # such as a folder in which anybody may have put the copy
        raise


def last_good_is_used(refused: ConfigError) -> str:
    first, *more = str(refused).splitlines()
    rest = f" and {counted(len(more), 'more error')}" if more else ""
    return f"the configuration is not valid ({first}{rest}): using the last valid one"


def _is_a_file(path: Path) -> bool:
    """No link and no pipe. Raises OSError."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False
