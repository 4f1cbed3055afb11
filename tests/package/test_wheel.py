"""The wheel in an empty environment: what pip, pipx and uv tool do with it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from neti import RELEASE, __version__

pytestmark = pytest.mark.package
ROOT = Path(__file__).parents[2]


def test_the_wheel_brings_all_it_needs(tmp_path: Path) -> None:
    """Installed alone, its command runs, reads a configuration, and finds no missing library."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("neti-*.whl")
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python, neti = environment / "bin/python", environment / "bin/neti"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", str(wheel)], check=True)
    subprocess.run([str(python), "-m", "pip", "check"], check=True)
    said = subprocess.run([str(neti), "--version"], capture_output=True, text=True, check=True)
    # Of a clone: the release to come, and by which commit it was built.
    assert said.stdout == f"neti {__version__}\n"
    assert wheel.name.split("-")[1] == RELEASE
    example = str(ROOT / "deploy/neti.yml.example")
    subprocess.run([str(neti), "config", "check", "-c", example], check=True, cwd=tmp_path)
    every = "import neti.agent.main, neti.monitoring.exposition, neti.registry.zookeeper.registry"
    subprocess.run([str(python), "-c", every], check=True, cwd=tmp_path)
    without = subprocess.run(
        [str(neti), "lab", "demo"], capture_output=True, text=True, check=False
    )
    assert without.returncode == 1
    assert without.stderr.startswith("neti: the lab is a separate package")
    assert "→ in a clone of the project: make setup" in without.stderr


def test_the_lab_is_a_wheel_of_its_own(tmp_path: Path) -> None:
    """Of the same version, and the agent's wheel has none of it."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(ROOT), str(ROOT / "lab")], check=True)
    (wheel,), (lab,) = tmp_path.glob("neti-*.whl"), tmp_path.glob("neti_lab-*.whl")
    assert wheel.name.split("-")[1] == lab.name.split("-")[1]
    with zipfile.ZipFile(wheel) as files:
        assert not [name for name in files.namelist() if "lab/" in name]
