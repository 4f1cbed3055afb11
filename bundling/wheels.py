"""Python packages for the bundle, by pip: wheels of its Python and architecture, by hash."""

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from bundling import CACHE, MACHINE, PYTHON, ROOT, Arch
from bundling.command import run
from bundling.lock import Part

_EXTRAS: Final = "aws,dashboard"
_NOT_OF_PYPI: Final = ("neti", "cryptography", "cffi", "pycparser")  # see bundling/debian.py
# Debian's C library is newer than any of these; pip wants each platform by name.
_GLIBC: Final = ("2_39", "2_36", "2_34", "2_31", "2_28", "2_27", "2_24", "2_17")
_PIP: Final = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


def own(epoch: int) -> Path:
    """Neti's own wheel, built of this clone; the same bytes each time."""
    folder = CACHE / "own"
    for former in folder.glob("neti-*.whl"):
        former.unlink()
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    run([*_PIP, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], env=env)
    (made,) = folder.glob("neti-*.whl")
    return made


def newest(arch: Arch, wheel: Path) -> list[Part]:
    """What Neti's wheel depends on, directly or not, in the newest versions that go together."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        words = ["install", "--dry-run", "--ignore-installed", "--report", report]
        target = ["--target", Path(folder, "none")]
        run([*_PIP, *words, *target, *_platform(arch), f"{wheel}[{_EXTRAS}]"])
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return [
        Part(
            one["metadata"]["name"].lower(),
            one["metadata"]["version"],
            one["download_info"]["url"].rsplit("/", 1)[-1],
            one["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for one in found
        if one["metadata"]["name"] not in _NOT_OF_PYPI
    ]


def installed(arch: Arch, wheel: Path, parts: Sequence[Part], into: Path) -> None:
    """Raises BundleError if a file has another hash than the lock says."""
    folder = CACHE / f"wheels-{arch}"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        wanted.writelines(_required(parts))
        wanted.flush()
        exactly = ["--no-deps", "--require-hashes", "--requirement", wanted.name]
        held = ["--find-links", folder]
        run([*_PIP, "download", *exactly, *held, *_platform(arch), "--dest", folder])
        target = ["--target", into, "--no-compile"]
        run([*_PIP, "install", *exactly, "--no-index", *held, *_platform(arch), *target])
    run([*_PIP, "install", "--no-deps", "--no-index", *_platform(arch), *target, wheel])


def _required(parts: Iterable[Part]) -> Iterable[str]:
    return (f"{one.name}=={one.version} --hash=sha256:{one.sha256}\n" for one in parts)


def _platform(arch: Arch) -> list[str]:
    machine = MACHINE[arch]
    platforms = [f"manylinux_{each}_{machine}" for each in _GLIBC] + [f"manylinux2014_{machine}"]
    of_python = ["--python-version", PYTHON, "--implementation", "cp"]
    return [
        *("--only-binary", ":all:", *of_python, "--abi", f"cp{PYTHON.replace('.', '')}"),
        *("--abi", "abi3", "--abi", "none"),
        *(word for each in platforms for word in ("--platform", each)),
    ]
