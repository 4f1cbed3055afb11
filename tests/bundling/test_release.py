"""What ``make release`` asks for before anything is published, and what it makes."""

import subprocess
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest

from bundling import BundleError, changelog, release
from neti import RELEASE

TODAY = date(2026, 12, 1)
LOG = """\
# Changelog

## 0.2.0 (2026-11-30)

Hosts without a public address.

### What you must do

- Upgrade gateways first.

### What you may do

- `gateways` in sites.

### Changed

- Faster.

## 0.1.0 (2026-09-01)

### What you must do

Something else.
"""


def test_a_section_of_the_changelog() -> None:
    found = changelog.section(LOG, "0.2.0", TODAY)
    assert found.dated == date(2026, 11, 30)
    assert found.parts == {
        "": "Hosts without a public address.",
        "What you must do": "- Upgrade gateways first.",
        "What you may do": "- `gateways` in sites.",
        "Changed": "- Faster.",
    }


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "## 0.2.0 (2026-11-30)",
            "## 0.2.0 (unreleased)",
            r"expected '## 0.2.0 \(YEAR-MONTH-DAY\)'",
        ),
        ("## 0.2.0 (2026-11-30)", "## 0.2.0", r"expected '## 0.2.0 \(YEAR-MONTH-DAY\)'"),
        ("## 0.2.0 (2026-11-30)", "## 0.3.0 (2026-11-30)", "first section has '## 0.3.0"),
        ("2026-11-30", "2026-12-02", "dated in the future"),
        ("- Upgrade gateways first.\n", "", "nothing under '### What you must do'"),
        ("### What you may do\n", "### What you might\n", "nothing under '### What you may do'"),
    ],
)
def test_a_changelog_that_is_not_ready(old: str, new: str, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        changelog.section(LOG.replace(old, new), "0.2.0", TODAY)


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=n", "-c", "user.email=n@n", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(name="clone")
def _clone(tmp_path: Path) -> Path:
    _git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("a")
    _git(tmp_path, "add", "file")
    _git(tmp_path, "commit", "--quiet", "--message", "one")
    return tmp_path


def test_only_a_clean_commit_of_this_version_is_released(clone: Path) -> None:
    assert release.ready(RELEASE, clone) == _git(clone, "rev-parse", "HEAD")
    with pytest.raises(BundleError, match=f"VERSION=9.9.9, .* has RELEASE = '{RELEASE}'"):
        release.ready("9.9.9", clone)
    (clone / "file").write_text("b")
    with pytest.raises(BundleError, match="changes that are not committed, file first"):
        release.ready(RELEASE, clone)
    _git(clone, "checkout", "--quiet", "file")
    _git(clone, "tag", f"v{RELEASE}")
    with pytest.raises(BundleError, match=f"the tag v{RELEASE} is there already"):
        release.ready(RELEASE, clone)


def test_checks_that_passed_for_this_commit_are_not_run_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(release, "ROOT", tmp_path)
    monkeypatch.setenv("MAKEFLAGS", " -j2 --jobserver-auth=3,4")  # it is make that starts this
    makefile = "good:\n\techo x >> ran\nbad:\n\t@echo it hurts; exit 1\n"
    (tmp_path / "Makefile").write_text(makefile)
    log = tmp_path / "log"
    with pytest.raises(BundleError, match=r"make bad failed, .*\nit hurts"):
        release.checked("c0ffee", ["good", "bad"], log)
    (tmp_path / "Makefile").write_text(makefile.replace("exit 1", "true"))
    release.checked("c0ffee", ["good", "bad"], log)
    assert (tmp_path / "ran").read_text() == "x\n"
    assert "make good: passed at" in capsys.readouterr().out
    release.checked("f00d", ["good"], log)
    assert (tmp_path / "ran").read_text() == "x\nx\n"


def _same(into: Path) -> None:
    (into / "neti.deb").write_text("the same")


def _each_time_another() -> Callable[[Path], None]:
    turns = iter("ab")

    def make(into: Path) -> None:
        (into / "neti.rpm").write_text("the same")
        (into / "neti.deb").write_text(next(turns))

    return make


def test_built_twice(tmp_path: Path) -> None:
    into = tmp_path / "dist/0.2.0"
    assert release.built_twice(_same, into) == [into / "neti.deb"]
    assert list(into.parent.iterdir()) == [into]


def test_builds_that_differ_are_not_released(tmp_path: Path) -> None:
    into = tmp_path / "dist/0.2.0"
    with pytest.raises(BundleError, match=r"built twice, neti\.deb differ"):
        release.built_twice(_each_time_another(), into)
    assert list(into.parent.iterdir()) == []


def test_notes_begin_with_what_one_must_do(tmp_path: Path) -> None:
    deb = tmp_path / "neti_0.2.0-1_amd64.deb"
    deb.write_bytes(bytes(2_000_000))
    found = changelog.section(LOG, "0.2.0", TODAY)
    notes = release.notes_of(found, "c0ffee", [deb], ["drills"])
    assert notes.startswith("# Neti 0.2.0\n\n2026-11-30, commit c0ffee.\n")
    assert notes.index("## What you must do") < notes.index("## What you may do")
    assert "| neti_0.2.0-1_amd64.deb | Debian, Ubuntu | 2.0 |" in notes
    assert "Not run for this release: `make drills`." in notes


@pytest.fixture(name="key")
def _key(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    words = ["gpg", "--batch", "--passphrase", "", "--quick-generate-key", "a@example.com"]
    subprocess.run([*words, "ed25519", "sign"], check=True, capture_output=True)
    yield "a@example.com"
    subprocess.run(["gpgconf", "--kill", "all"], check=True)


def test_the_sums_are_signed(key: str, tmp_path: Path) -> None:
    release.can_sign(key)
    (tmp_path / "neti.deb").write_text("a")
    release.signed(tmp_path, [tmp_path / "neti.deb"], key)
    check = ["sha256sum", "--check", "--strict", release.SUMS]
    assert subprocess.run(check, cwd=tmp_path, check=False).returncode == 0
    verify = ["gpg", "--verify", f"{release.SUMS}.asc", release.SUMS]
    assert subprocess.run(verify, cwd=tmp_path, check=False).returncode == 0
    with (tmp_path / release.SUMS).open("a") as sums:
        sums.write("0  neti.rpm\n")
    assert subprocess.run(verify, cwd=tmp_path, check=False).returncode == 1


def test_a_key_that_is_not_there_is_said_first(key: str) -> None:
    with pytest.raises(BundleError, match=r"gpg .* failed"):
        release.can_sign("nobody@example.com")
