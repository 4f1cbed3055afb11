"""The bundle: Neti with its own Python, C library and libnftables, for any Linux.

A tool for whoever builds Neti; no host runs it. See docs/design/bundle.md.
"""

from pathlib import Path
from typing import Final, Literal

from neti.errors import NetiError

Arch = Literal["amd64", "arm64"]

ARCHES: Final[tuple[Arch, ...]] = ("amd64", "arm64")
TRIPLET: Final[dict[Arch, str]] = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
MACHINE: Final[dict[Arch, str]] = {"amd64": "x86_64", "arm64": "aarch64"}
LOADER: Final[dict[Arch, str]] = {"amd64": "ld-linux-x86-64.so.2", "arm64": "ld-linux-aarch64.so.1"}

PYTHON: Final = "3.13"  # of the Debian release that the bundle is made of
HOME: Final = "/opt/neti"  # where it is on a host; built into its loader's paths
ROOT: Final = Path(__file__).parents[1]
CACHE: Final = ROOT / "build" / "bundle-cache"


class BundleError(NetiError):
    """The bundle cannot be built: what is missing or wrong, and what to do."""


def shown(path: Path) -> Path:
    """As a person in the clone would type it."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
