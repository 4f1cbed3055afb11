"""A fingerprint of this machine: a copy of its disk on another machine has another one.

Never the raw ids: the fingerprint is written to files. Two fingerprints are compared, not read.

Must never differ between root and the agent's own user. They share the state folder, and each would
take it for another machine's. So an id that only root can read is passed to the agent as a
credential of its unit (systemd.exec(5), LoadCredential=); without that there is an error and no
fingerprint.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from neti.clock import boot_id
from neti.errors import IdentityError

# The DMI ids are the machine's own; on EC2's Nitro the asset tag is the instance id. Only root can
# read product_uuid, and containers have none of them.
SOURCES: Final = (
    Path("/etc/machine-id"),
    Path("/sys/class/dmi/id/product_uuid"),
    Path("/sys/class/dmi/id/board_asset_tag"),
)
_MAX_BYTES: Final = 256


def fingerprint(
    sources: Sequence[Path] = SOURCES, environment: Mapping[str, str] = os.environ
) -> str:
    """64 hex digits, or '' when nothing distinguishes this machine from another. Raises
    IdentityError if root would see more than this process does."""
    seen = [f"{path.name}={text}" for path in sources if (text := _read(path, environment))]
    if not seen:
        return ""
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()


def running_here(folder: Path) -> str:
    """A digest of this boot of this machine and the agent's state folder, hexadecimal: what a
    restarted agent has in common with itself, and no other one."""
    return hashlib.sha256(f"{boot_id()} {folder.absolute()}".encode()).hexdigest()[:8]


def _read(path: Path, environment: Mapping[str, str]) -> str:
    try:
        content = _content(path)
    except PermissionError:
        content = _handed_over(path, environment)
    except OSError:
        return ""
    text = content.decode("ascii", "replace").strip().lower()
    # What systemd writes into an image that gets its id at first boot, and what the unit passes
    # when there is nothing to read.
    return "" if text in {"uninitialized", "none", "not specified"} else text


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_BYTES)


def _handed_over(path: Path, environment: Mapping[str, str]) -> bytes:
    """The credential with the file's name, if this user may not read the file."""
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if folder is not None:
        try:
            return _content(Path(folder) / path.name)
        except OSError:
            pass
    if os.geteuid() == 0 or path.stat().st_uid != 0:
        return b""  # nobody in a container with its own root can read this
    raise IdentityError(
        f"only root can read {path}, and without it this machine's state cannot be told from "
        f"another's. Run this as root, or in a unit with LoadCredential={path.name}:{path}"
    )
