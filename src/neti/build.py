"""Which build this is, so that two builds between releases can be told apart.

A wheel says by which commit it was built (``hatch_build.py`` writes that), a clone by which commit
it stands. Must never do: fail, or start a program.
"""

import os
import re
from pathlib import Path
from typing import Final

STAMP: Final = "commit"  # the file beside this one, in a wheel
FOR_A_RELEASE: Final = "NETI_RELEASE"  # set: what is built is the release itself
_COMMIT: Final = re.compile(r"[0-9a-f]{40,64}")
_SHOWN: Final = 10
_BUNDLE: Final = Path("/opt/neti")  # as docs/design/bundle.md has it
_BY: Final = "installed-by"  # in it, by whoever put it there
_WRAPPINGS: Final = ("deb", "rpm", "tarball")
_INSTALLER: Final = re.compile(r"[a-z][a-z0-9.-]{0,31}")
_AT_MOST: Final = 1 << 20


def suffix(package: Path = Path(__file__).parent) -> str:
    """What follows the number of the release; empty for the release itself."""
    commit = _read(package / STAMP)
    if not commit and package.parent.name == "src" and not os.environ.get(FOR_A_RELEASE):
        commit = commit_of(package.parent.parent)
    return f"+g{commit[:_SHOWN]}" if _COMMIT.fullmatch(commit) else ""


def installed(package: Path = Path(__file__).parent, bundle: Path = _BUNDLE) -> str:
    """How this came here: "deb", "rpm" or "tarball" (the bundle), "pip" (any installer of wheels
    says who it is), "source" (a clone that is run as it is). Empty where nothing tells: it is not
    guessed."""
    site = package.parent
    if site.name == "src":
        return "source"
    if site.is_relative_to(bundle):
        by = _read(bundle / _BY)
        return by if by in _WRAPPINGS else ""
    said = next((_read(path) for path in site.glob("neti-*.dist-info/INSTALLER")), "")
    return "pip" if _INSTALLER.fullmatch(said) else ""


def commit_of(clone: Path) -> str:
    """Of git's own files; empty where there are none, or none that can be read."""
    git = clone / ".git"
    if link := _read(git):  # a worktree
        git = clone / link.removeprefix("gitdir: ")
    head = _read(git / "HEAD")
    if not head.startswith("ref: "):
        return head
    ref, common = head.removeprefix("ref: "), git / (_read(git / "commondir") or ".")
    if commit := _read(git / ref) or _read(common / ref):
        return commit
    for line in _read(common / "packed-refs").splitlines():
        commit, _, name = line.partition(" ")
        if name == ref:
            return commit
    return ""


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_AT_MOST).decode("ascii", "replace").strip()
    except (OSError, ValueError):
        return ""
