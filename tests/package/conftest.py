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


@pytest.fixture(scope="session")
def debs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The package, and a later version of it. ``make deb-test`` has built the first."""
    require_root()
    built = sorted((ROOT / "dist").glob("neti_*.deb"))
    if not built or not (ROOT / "build/debian-root/.complete").exists():
        pytest.skip("the package or the clean root file system is not built: make deb-test")
    deb = max(built, key=lambda path: path.stat().st_mtime)
    later_than_it = [path for path in _sources() if path.stat().st_mtime > deb.stat().st_mtime]
    if later_than_it:
        pytest.fail(f"{deb.name} is older than {later_than_it[0].relative_to(ROOT)}: make deb-test")
    folder = tmp_path_factory.mktemp("debs")
    later, tree = folder / "neti-later.deb", folder / "tree"
    subprocess.run(["dpkg-deb", "-R", str(deb), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    text = control.read_text()
    assert "-1\n" in text
    control.write_text(text.replace("-1\n", "-2\n", 1))
    subprocess.run(["dpkg-deb", "-Znone", "-b", str(tree), str(later)], check=True)
    return [deb, later]


def _sources() -> Iterator[Path]:
    """All that goes into the package."""
    for name in ("src", "deploy", "docs", "scripts"):
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
        with machine.booted(ROOT / "build/debian-root", folder, *words) as booted:
            yield booted
    finally:
        shutil.rmtree(folder)
