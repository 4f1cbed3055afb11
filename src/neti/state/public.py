"""The one file of the state folder that everybody on this machine may read: the overlay address.

Configuration management and applications ask for it, and they are not root. It names its machine
by what everybody may read, so that a clone does not take over the original's address.

Must never do: hold anything that a user of this machine must not know.
"""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from neti import durable, files
from neti.errors import IdentityError
from neti.identity.machine import fingerprint

OVERLAY_FILE: Final = "overlay.json"
MODE: Final = 0o644
FOLDER_MODE: Final = 0o751  # others may open a file whose name they know, and list nothing
_AT_MOST: Final = 4096
_SOURCES: Final = (Path("/etc/machine-id"), Path("/sys/class/dmi/id/board_asset_tag"))


def content(overlay: str | None) -> bytes:
    return durable.line({"overlay": overlay, "public_machine": _machine()})


def read_overlay(folder: Path) -> IPv4Address | None:
    """None: there is none, or it is another machine's, or it may not be read."""
    try:
        held = durable.checked(files.read(folder / OVERLAY_FILE, _AT_MOST))
        if held.get("public_machine") != _machine():
            return None
        return IPv4Address(str(held["overlay"]))
    except (OSError, ValueError, KeyError):
        return None


def _machine() -> str:
    try:
        return fingerprint(_SOURCES)
    except IdentityError:  # a container that hides even these
        return ""
