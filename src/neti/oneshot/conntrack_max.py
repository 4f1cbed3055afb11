"""What only root can do about ``conntrack_max``, beside an agent that runs as its own user.

The units' first step raises the limit, ``neti down`` puts it back, ``neti up`` raises it again.

Must never do: lower the limit but to put back what was found, or keep an agent from starting.
"""

import os
from pathlib import Path

from neti.dataplane.conntrack import load_tracking
from neti.dataplane.conntrack_limit import ConntrackLimit
from neti.errors import NetiError
from neti.host.machine import switched_off
from neti.model.settings import Settings
from neti.oneshot.down import is_down
from neti.state.last_good import load_or_last_good


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
    return ConntrackLimit(folder, load=load_tracking).raise_to(settings.conntrack_max)
