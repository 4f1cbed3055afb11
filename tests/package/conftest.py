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
    folder = tmp_path_factory.mktemp("debs")
    later, tree = folder / "neti-later.deb", folder / "tree"
    subprocess.run(["dpkg-deb", "-R", str(built[-1]), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    text = control.read_text()
    assert "-1\n" in text
    control.write_text(text.replace("-1\n", "-2\n", 1))
    subprocess.run(["dpkg-deb", "-Znone", "-b", str(tree), str(later)], check=True)
    return [built[-1], later]


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
