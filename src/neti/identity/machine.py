"""Which machine this is, as a fingerprint that does not survive copying a disk to another one.

Never the raw ids: the fingerprint is written to files. Two fingerprints are compared, not read.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

# The DMI ids are the machine's own; on EC2's Nitro the asset tag is the instance id. product_uuid
# and the serial can only be read by root, and containers have none of them.
SOURCES: Final = (
    Path("/etc/machine-id"),
    Path("/sys/class/dmi/id/product_uuid"),
    Path("/sys/class/dmi/id/board_asset_tag"),
)
_MAX_BYTES: Final = 256


def fingerprint(sources: Sequence[Path] = SOURCES) -> str:
    """64 hex digits, or '' when nothing here tells this machine from another."""
    seen = [f"{path.name}={text}" for path in sources if (text := _read(path))]
    if not seen:
        return ""
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()


def boot_id() -> str:
    """Of this boot; another one after every restart of the machine (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES)
    except OSError:
        return ""
    text = content.decode("ascii", "replace").strip().lower()
    # What systemd writes into an image that is to get its id at first boot.
    return "" if text in {"uninitialized", "none", "not specified"} else text
