"""What is inside: a CycloneDX document, and the licences. Pure but for copying.

https://cyclonedx.org/docs/1.5/json/
"""

import json
import shutil
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bundling import Arch
from bundling.lock import Lock, Part

_SPEC: Final = "1.5"
_OURS: Final = uuid.UUID("5b6b2a0e-8d0f-4b34-9d0a-9a0e6f3f2c11")  # any; it makes ours differ
_LICENCE_WORDS: Final = ("LICEN", "COPYING", "NOTICE", "AUTHORS")


def document(lock: Lock, arch: Arch, version: str, epoch: int) -> str:
    """The same for the same lock, version and time."""
    debs = [_component(one, _of_debian(one, arch)) for one in lock.debs[arch]]
    wheels = [_component(one, f"pkg:pypi/{one.name}@{one.version}") for one in lock.wheels[arch]]
    said: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": _SPEC,
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "name": "neti",
                "version": version,
                "purl": f"pkg:generic/neti@{version}?arch={arch}",
            },
        },
        "components": [*debs, *wheels],
    }
    content = json.dumps(said, sort_keys=True)
    said["serialNumber"] = f"urn:uuid:{uuid.uuid5(_OURS, content)}"
    return json.dumps(said, indent=1, sort_keys=True) + "\n"


def licences(lock: Lock, arch: Arch, debian: Path, site: Path, into: Path) -> None:
    """Of each part a folder with what it says of its licence."""
    for one in lock.debs[arch]:
        target = into / one.name
        target.mkdir(parents=True, exist_ok=True)
        # A folder, a file or both may be links to those of another package of the same source.
        shutil.copyfile(
            _inside(debian, f"usr/share/doc/{one.name}/copyright"), target / "copyright"
        )
    for info in sorted(site.glob("*.dist-info")):
        name = info.name.partition("-")[0]
        for found in _said_of_licence(info):
            (into / name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found, into / name / found.name)


def _inside(root: Path, name: str) -> Path:
    """Where ``name`` leads when links are followed as if ``root`` were /."""
    found = root
    for part in Path(name).parts:
        found /= part
        if found.is_symlink():
            target = found.readlink()
            found = (
                root / target.relative_to("/") if target.is_absolute() else found.parent / target
            )
    return found


def _said_of_licence(info: Path) -> Iterator[Path]:
    named = [path for path in sorted(info.rglob("*")) if path.is_file()]
    found = [path for path in named if path.name.upper().startswith(_LICENCE_WORDS)]
    return iter(found or [info / "METADATA"])  # which has a line that says which it is


def _component(part: Part, purl: str) -> dict[str, Any]:
    return {
        "type": "library",
        "name": part.name,
        "version": part.version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": part.sha256}],
    }


def _of_debian(part: Part, arch: Arch) -> str:
    return f"pkg:deb/debian/{part.name}@{part.version}?arch={arch}&distro={part.suite}"
