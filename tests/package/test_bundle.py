"""The bundle on other machines than Debian 12: from the package file to "in step", enforced,
through a restart, an upgrade and the way back, until nothing is left.

Each machine has systemd; the one for the tarball has a shell beside it, and no other program.
"""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest
from tests.package.conftest import ROOT, ROOTS, newest
from tests.support import machine
from tests.support.machine import Machine, wait
from tests.support.netns import require_root

pytestmark = pytest.mark.package

RELEASES: Final = ("bullseye", "bookworm", "trixie", "forky")
IN_STEP_WITHIN: Final = 60.0  # seconds, from the package file on
CONFIG: Final = f"{machine.CONFIG}session_seconds: 10\n"
_SHELL_AND_SYSTEMD: Final = (
    "sh",
    "dash",
    "systemctl",
    "systemd",
    "systemd-*",
    "journalctl",
    "mount",
    "umount",
    "env",  # mount, umount and env are what tests.support.machine boots it with
)


@dataclass(frozen=True)
class Way:
    """Of installing, upgrading and removing: words for the machine. ``listed``: its own nft knows
    all that this kernel knows."""

    files: tuple[str, str]  # in /mnt/files: a version, and a later one
    install: Callable[[str], list[str]]
    remove: list[str]
    purge: list[str] | None
    listed: bool = True


DEB = Way(
    ("neti.deb", "neti-later.deb"),
    lambda file: ["dpkg", "-i", f"/mnt/files/{file}"],
    ["dpkg", "-r", "neti"],
    ["dpkg", "-P", "neti"],
)
TARBALL = Way(
    ("neti", "neti-later"),
    lambda folder: ["sh", f"/mnt/files/{folder}/install.sh"],
    ["/bin/sh", "/opt/neti/install.sh", "--remove"],
    None,
)


@pytest.fixture(scope="session", name="without_programs")
def _without_programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian 12 with its libraries, a shell, systemd, and no other program."""
    require_root()
    _built()
    root = ROOT / "build/roots/without-programs"
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["cp", "-a", str(ROOTS / "bookworm"), str(root)], check=True)
    for folder in ("usr/bin", "usr/sbin", "usr/local/bin"):
        for path in (root / folder).iterdir():
            if not any(path.match(kept) for kept in _SHELL_AND_SYSTEMD) and path.name != "init":
                path.unlink()
    return root


def _built() -> None:
    if not all((ROOTS / release / ".complete").exists() for release in RELEASES):
        pytest.skip("the clean root file systems are not built: make package-test")


def _tried(root: Path, way: Way, fill: Callable[[Path], None]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="neti-machine-"))
    (folder / "files").mkdir()
    fill(folder / "files")
    folder.chmod(0o755)
    try:
        # Without programs some of Debian's own units fail.
        with machine.booted(root, folder, degraded=True) as booted:
            _a_life(booted, way)
    finally:
        shutil.rmtree(folder)


def _a_life(host: Machine, way: Way) -> None:
    _uplink(host)
    etc = host.path("/etc/neti")
    etc.mkdir(parents=True)
    (etc / "neti.yml").write_text(CONFIG)
    before = _kernel(host)
    began = time.monotonic()
    host.run(*way.install(way.files[0]))
    wait(lambda: "in step" in _status(host), "in step", IN_STEP_WITHIN)
    assert time.monotonic() - began < IN_STEP_WITHIN
    assert host.out("/opt/neti/bin/neti", "--version").startswith("neti ")

    host.run("/opt/neti/bin/neti", "enforce", "--trial", "30", "--anyway", "--no-follow")
    host.run("/opt/neti/bin/neti", "confirm")
    _enforced(host)
    if way.listed and host.path("/usr/sbin/nft").exists():
        # The host's own nft, which may be older, prints what it can load: people save it for boot.
        host.run("sh", "-c", "nft list ruleset >/run/saved && nft --check --file /run/saved")
    host.run("systemctl", "restart", "neti.service")
    wait(lambda: "in step" in _status(host), "in step after a restart", 30)
    _enforced(host)

    for file in reversed(way.files):  # the later one, live; then back
        pid = host.out("systemctl", "show", "--value", "-p", "MainPID", "neti.service")
        host.run(*way.install(file))
        wait(lambda: "in step" in _status(host), f"in step with {file}", 30)
        assert pid != host.out("systemctl", "show", "--value", "-p", "MainPID", "neti.service")
        _enforced(host)

    host.run(*way.remove)
    assert _kernel(host) == before
    assert not host.path("/opt/neti").exists()
    assert not host.path("/usr/bin/neti").is_symlink()
    if way.purge is not None:
        host.run(*way.purge)
        assert not host.path("/var/lib/neti").exists()


def _uplink(host: Machine) -> None:
    """From outside: the machine may have no program for it."""
    for words in (
        "link add eth0 type veth peer name far",
        "addr add 10.0.0.5/24 dev eth0",
        "link set eth0 up",
        "link set far up",
    ):
        _outside(host, "ip", *words.split())


def _outside(host: Machine, *words: str) -> str:
    inside = ["nsenter", "--target", str(host.pid), "--net", "--", *words]
    return subprocess.run(inside, capture_output=True, text=True, check=True).stdout


def _kernel(host: Machine) -> str:
    tables = _outside(host, "nft", "list", "ruleset")
    return tables + _outside(host, "ip", "-4", "route", "show", "table", "all")


def _status(host: Machine) -> str:
    return host.run("/opt/neti/bin/neti", "status", check=False).stdout


def _enforced(host: Machine) -> None:
    said = json.loads(host.out("/opt/neti/bin/neti", "status", "--json"))
    assert said["stage"] == "enforced", said["stage"]


@pytest.mark.parametrize("release", RELEASES)
def test_the_deb_on_other_releases(debs: list[Path], release: str) -> None:
    def fill(files: Path) -> None:
        for name, deb in zip(DEB.files, debs, strict=True):
            shutil.copy(deb, files / name)

    _built()
    # Debian 11's nft does not know of control groups, of which its own kernel knows nothing either.
    _tried(ROOTS / release, replace(DEB, listed=release != "bullseye"), fill)


def test_the_tarball_where_there_is_a_shell_and_systemd(
    debs: list[Path], without_programs: Path
) -> None:
    def fill(files: Path) -> None:
        tarball = newest("neti-*.tar.gz")
        for name in TARBALL.files:
            (files / name).mkdir()
            subprocess.run(
                ["tar", "xzf", str(tarball), "-C", str(files / name), "--strip-components=1"],
                check=True,
            )

    _tried(without_programs, TARBALL, fill)


@pytest.fixture(name="rpm_root")
def _rpm_root(tmp_path: Path) -> Iterator[Path]:
    """A root file system that rpm manages: Debian 12's, with an empty database of its own."""
    require_root()
    _built()
    root = tmp_path / "root"
    subprocess.run(["cp", "-a", str(ROOTS / "bookworm"), str(root)], check=True)
    yield root
    shutil.rmtree(root)


def test_the_rpm_is_installed_and_removed(debs: list[Path], rpm_root: Path) -> None:
    """Into a root file system of its own: the user is made, the units are enabled, and nothing is
    left but what is the operator's."""

    def rpm(*words: str) -> None:
        command = ["rpm", "--root", str(rpm_root), "--dbpath", "/var/lib/rpm", "--nodeps", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    before = _everything(rpm_root)
    rpm("-i", str(newest("neti-*.rpm")))
    inside = ["/usr/sbin/chroot", str(rpm_root)]
    said = subprocess.run(
        [*inside, "/usr/bin/neti", "--version"], capture_output=True, text=True, check=True, env={}
    )
    assert said.stdout.startswith("neti ")
    assert (rpm_root / "opt/neti/installed-by").read_text() == "rpm\n"
    assert "\nneti:" in (rpm_root / "etc/passwd").read_text()
    enabled = rpm_root / "etc/systemd/system/multi-user.target.wants/neti.service"
    assert enabled.is_symlink()
    rpm("-e", "neti")
    assert not enabled.is_symlink()
    left = {path for path in _everything(rpm_root) - before if "lib/rpm" not in path}
    assert {path for path in left if "neti" in path} <= {"etc/neti"}


def _everything(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}
