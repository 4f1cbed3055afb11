"""Which machine this is, as a fingerprint that does not survive copying a disk to another one.

Never the raw ids: the fingerprint is written to files. Two fingerprints are compared, not read.

Must never do: come out differently for root and for the agent's own user. They share the state, and
each would take it for another machine's. So an id that only root can read reaches the agent as a
credential of its unit (systemd.exec(5), LoadCredential=), and where it does not, there is an error
and no fingerprint.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from neti.errors import IdentityError

# The DMI ids are the machine's own; on EC2's Nitro the asset tag is the instance id. product_uuid
# can only be read by root, and containers have none of them.
SOURCES: Final = (
    Path("/etc/machine-id"),
    Path("/sys/class/dmi/id/product_uuid"),
    Path("/sys/class/dmi/id/board_asset_tag"),
)
_MAX_BYTES: Final = 256


def fingerprint(
    sources: Sequence[Path] = SOURCES, environment: Mapping[str, str] = os.environ
) -> str:
    """64 hex digits, or '' when nothing here tells this machine from another. Raises IdentityError
    where root would see more than this process does."""
    seen = [f"{path.name}={text}" for path in sources if (text := _read(path, environment))]
    if not seen:
        return ""
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()


def boot_id() -> str:
    """Of this boot; another one after every restart of the machine (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _read(path: Path, environment: Mapping[str, str]) -> str:
    try:
        content = _content(path)
    except PermissionError:
        content = _handed_over(path, environment)
    except OSError:
        return ""
    text = content.decode("ascii", "replace").strip().lower()
    # What systemd writes into an image that is to get its id at first boot, and what the unit hands
    # over where there is nothing to read.
    return "" if text in {"uninitialized", "none", "not specified"} else text


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_BYTES)


def _handed_over(path: Path, environment: Mapping[str, str]) -> bytes:
    """The credential of the file's name, for what this user may not read."""
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if folder is not None:
        try:
            return _content(Path(folder) / path.name)
        except OSError:
            pass
    if os.geteuid() == 0 or path.stat().st_uid != 0:
        return b""  # in a container whose root is not the machine's: nobody in it can read this
    raise IdentityError(
        f"{path}: only root can read it, and without it this machine's state is not told from "
        f"another's: run this as root, or by a unit with LoadCredential={path.name}:{path}"
    )
