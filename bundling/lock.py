"""The lock: exactly which files of the registries the bundle is made of, for each architecture.

Files are named by version and hash, never by where they come from: any mirror will do.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bundling import ARCHES, Arch, BundleError

PATH: Final = Path(__file__).with_name("lock.json")
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """One file. ``name``: of the Debian package or the distribution; ``suite``: Debian's release
    that has it; empty for a wheel."""

    name: str
    version: str
    file: str
    sha256: str
    suite: str = ""


@dataclass(frozen=True, slots=True)
class Lock:
    """By architecture, each sorted by name."""

    debs: Mapping[Arch, tuple[Part, ...]]
    wheels: Mapping[Arch, tuple[Part, ...]]


def read(path: Path = PATH) -> Lock:
    """Raises BundleError, with the file and what is wrong in it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != _FORMAT:
            raise BundleError(f"{path}: format {document['format']}, expected {_FORMAT}")
        return Lock(_parts(document["debs"]), _parts(document["wheels"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: not a lock ({error}): python -m bundling lock") from error


def write(lock: Lock, path: Path = PATH) -> None:
    document = {
        "format": _FORMAT,
        "debs": {arch: [_plain(one) for one in sorted(lock.debs[arch])] for arch in ARCHES},
        "wheels": {arch: [_plain(one) for one in sorted(lock.wheels[arch])] for arch in ARCHES},
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _parts(document: Any) -> dict[Arch, tuple[Part, ...]]:
    return {arch: tuple(Part(**one) for one in document[arch]) for arch in ARCHES}


def _plain(part: Part) -> dict[str, str]:
    return {key: value for key, value in asdict(part).items() if value}
