"""What only root can do about ``conntrack_max``, beside an agent that runs as its own user.

The units' first step raises the limit, ``neti down`` puts it back, ``neti up`` raises it again.

Must never do: lower the limit but to put back what was found, or keep an agent from starting.
"""

import os
import subprocess
from pathlib import Path

from neti.dataplane.conntrack_limit import ConntrackLimit
from neti.errors import DataplaneError, NetiError
from neti.host.machine import switched_off
from neti.model.settings import Settings
from neti.oneshot.down import is_down
from neti.state.last_good import load_or_last_good
from neti.words import why


def before_start(config: Path) -> tuple[str, ...]:
    """Raise the limit as the configuration says; sentences about what was not done."""
    if switched_off() is not None:
        return ()
    try:
        settings, _ = load_or_last_good(config)
        if is_down(settings.table_files_path):
            return ()
        return raise_limit(settings)
    except NetiError as error:
        return (str(error),)


def raise_limit(settings: Settings) -> tuple[str, ...]:
    """Raises DataplaneError when the kernel or the disk refuses."""
    if os.geteuid() != 0:
        return ("only root can raise the limit of connection tracking",)
    folder = settings.table_files_path
    if not folder.is_dir():
        return (f"{folder} does not exist yet, so conntrack_max is not set",)
    return ConntrackLimit(folder, load=_load_module).raise_to(settings.conntrack_max)


def _load_module() -> None:
    """The limit exists only once the module is there. Built in, it always is."""
    try:
        subprocess.run(
            ["modprobe", "--quiet", "nf_conntrack"], check=True, timeout=10, capture_output=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise DataplaneError(f"the module nf_conntrack cannot be loaded: {why(error)}") from error
