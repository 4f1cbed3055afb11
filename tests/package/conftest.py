"""Fixtures of the package's tests: the package as built, and machines to install it on."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import machine
from tests.support.machine import Machine
from tests.support.netns import require_root

ROOT = Path(__file__).parents[2]
ROOTS = ROOT / "build/roots"


@pytest.fixture(scope="session")
def debs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The package, and a later version of it. ``make package-test`` has built the first."""
    require_root()
    if not (ROOTS / "bookworm/.complete").exists():
        pytest.skip("the clean root file systems are not built: make package-test")
    deb = newest("neti_*.deb")
    later_than_it = [path for path in _sources() if path.stat().st_mtime > deb.stat().st_mtime]
    if later_than_it:
        pytest.fail(
            f"{deb.name} is older than {later_than_it[0].relative_to(ROOT)}: make package-test"
        )
    folder = tmp_path_factory.mktemp("debs")
    later, tree = folder / "neti-later.deb", folder / "tree"
    subprocess.run(["dpkg-deb", "-R", str(deb), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    text = control.read_text()
    assert "-1\n" in text
    control.write_text(text.replace("-1\n", "-2\n", 1))
    subprocess.run(["dpkg-deb", "-Znone", "-b", str(tree), str(later)], check=True)
    return [deb, later]


def newest(pattern: str) -> Path:
    """Of what was built for this machine."""
    words = ["dpkg", "--print-architecture"]
    arch = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    built = [path for path in (ROOT / "dist").glob(pattern) if arch in path.name]
    if not built:
        pytest.skip(f"{pattern} is not built: make package-test")
    return max(built, key=lambda path: path.stat().st_mtime)


def _sources() -> Iterator[Path]:
    """All that goes into the package."""
    for name in ("src", "bundling", "deploy", "docs"):
        found = (ROOT / name).rglob("*")
        yield from (path for path in found if path.is_file() and path.suffix != ".pyc")
    yield from (ROOT / name for name in ("README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"))


@pytest.fixture
def debian(debs: list[Path], request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine with nothing of Neti's on it; the packages lie in /mnt/files. A parameter is a word
    for its kernel's command line."""
    words = [request.param] if hasattr(request, "param") else []
    folder = Path(tempfile.mkdtemp(prefix="neti-machine-"))
    files = folder / "files"
    files.mkdir()
    for name, deb in zip(("neti.deb", "neti-later.deb"), debs, strict=True):
        shutil.copy(deb, files / name)
    os.chmod(folder, 0o755)
    try:
        with machine.booted(ROOTS / "bookworm", folder, *words) as booted:
            yield booted
    finally:
        shutil.rmtree(folder)
