"""Two builds between releases have different versions; the release itself has its number alone."""

from pathlib import Path

import pytest

from neti import build

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(name="package")
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(build.FOR_A_RELEASE, raising=False)
    package = tmp_path / "clone" / "src" / "neti"
    package.mkdir(parents=True)
    return package


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_clone_says_by_which_commit_it_stands(package: Path) -> None:
    git = package.parents[1] / ".git"
    _write(git / "HEAD", f"{COMMIT}\n")
    assert build.suffix(package) == "+g0123456789"
    _write(git / "HEAD", "ref: refs/heads/main\n")
    assert build.suffix(package) == ""
    _write(git / "packed-refs", f"# pack-refs with: peeled\n{COMMIT} refs/heads/main\n")
    assert build.suffix(package) == "+g0123456789"
    _write(git / "refs/heads/main", f"{COMMIT[::-1]}\n")
    assert build.suffix(package) == f"+g{COMMIT[::-1][:10]}"


def test_a_worktree_says_its_own(package: Path) -> None:
    clone = package.parents[1]
    git = clone.parent / "main.git"
    _write(git / "worktrees/w/HEAD", "ref: refs/heads/other\n")
    _write(git / "worktrees/w/commondir", "../..\n")
    _write(git / "refs/heads/other", COMMIT)
    _write(clone / ".git", f"gitdir: {git}/worktrees/w\n")
    assert build.suffix(package) == "+g0123456789"


def test_a_wheel_says_what_was_written_into_it(package: Path, tmp_path: Path) -> None:
    installed = tmp_path / "site-packages" / "neti"
    _write(installed / build.STAMP, COMMIT)
    assert build.suffix(installed) == "+g0123456789"


@pytest.mark.parametrize("content", ["", "rubbish", "ref: refs/heads/none", "ref: ../../../x"])
def test_what_git_does_not_say_is_left_out(package: Path, content: str) -> None:
    _write(package.parents[1] / ".git/HEAD", content)
    assert build.suffix(package) == ""


def test_a_release_has_its_number_alone(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(package.parents[1] / ".git/HEAD", COMMIT)
    monkeypatch.setenv(build.FOR_A_RELEASE, "1")
    assert build.suffix(package) == ""


def test_how_it_was_installed_is_not_guessed(tmp_path: Path) -> None:
    """An installer of wheels leaves its name; a clone stands in src; the package has a folder of
    its own, which anybody may make."""
    package = tmp_path / "site-packages/neti"
    package.mkdir(parents=True)
    assert build.installed(package) == ""
    info = tmp_path / "site-packages/neti-0.1.0.dist-info"
    info.mkdir()
    (info / "INSTALLER").write_text("pip\n")
    assert build.installed(package) == "pip"
    assert build.installed(tmp_path / "src/neti") == "source"
    bundle = tmp_path / "opt/neti"
    inside = bundle / "lib/python3.13/dist-packages/neti"
    inside.mkdir(parents=True)
    assert build.installed(inside, bundle) == ""
    for word in ("deb", "rpm", "tarball"):
        (bundle / "installed-by").write_text(f"{word}\n")
        assert build.installed(inside, bundle) == word
    assert build.installed(package, bundle) == "pip"
