"""``make release``: checks, builds twice, compares, signs, and says what to publish.

Nothing leaves the machine, and nothing is tagged: the last lines say what a person does then.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bundling import ARCHES, CACHE, ROOT, BundleError, changelog, shown
from bundling.command import run
from neti import RELEASE, build
from neti.errors import NetiError

# By name: what ``make`` is asked for, the quickest first.
CHECKS: Final = (
    "bundle-check",
    "test",
    "test-lowest",
    "test-newest",
    "package-test",
    "kernel-test",
    "drills",
)
_OF_MAKE: Final = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES")
SUMS: Final = "SHA256SUMS"
NOTES: Final = "NOTES.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bundling.release")
    parser.add_argument("version", help="such as 0.2.0: what src/neti/__init__.py has")
    parser.add_argument("--key", required=True, help="of gpg: a fingerprint; signs SHA256SUMS")
    parser.add_argument(
        "--skip", action="append", default=[], choices=CHECKS, help="a check; the notes say so"
    )
    asked = parser.parse_args()
    try:
        _release(asked.version, asked.key, tuple(asked.skip))
    except NetiError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


def _release(version: str, key: str, skipped: Sequence[str]) -> None:
    commit = ready(version)
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    section = changelog.section(text, version, datetime.now(UTC).date())
    can_sign(key)
    checked(commit, [name for name in CHECKS if name not in skipped])
    into = ROOT / "dist" / version
    if into.exists():
        shutil.rmtree(into)
    made = built_twice(_build, into)
    notes = notes_of(section, commit, made, skipped)
    (into / NOTES).write_text(notes, encoding="utf-8")
    signed(into, [*made, into / NOTES], key)
    print(f"\nTo publish, from dist/{version}:")
    for file in sorted(into.iterdir()):
        print(f"  {file.name}  {file.stat().st_size / 1e6:.1f} MB")
    print(
        f"\n→ git tag --sign --local-user {key} --message 'Neti {version}' v{version} {commit}\n"
        "→ publish these files and the tag, with the text of NOTES.md\n"
        "→ raise RELEASE in src/neti/__init__.py, and begin a section in CHANGELOG.md"
    )


def ready(version: str, root: Path = ROOT) -> str:
    """The commit that is to be released. Raises BundleError unless the clone is just that commit,
    with this version, and nobody has tagged it before."""
    if version != RELEASE:
        raise BundleError(
            f"VERSION={version}, and src/neti/__init__.py has RELEASE = {RELEASE!r}: expected the "
            "same"
        )
    changed = run(["git", "-C", root, "status", "--porcelain"]).splitlines()
    if changed:
        raise BundleError(
            f"the clone has changes that are not committed, {changed[0][3:]} first: expected none"
        )
    if run(["git", "-C", root, "tag", "--list", f"v{version}"]).strip():
        raise BundleError(f"the tag v{version} is there already: expected a new version")
    return run(["git", "-C", root, "rev-parse", "HEAD"]).strip()


def checked(commit: str, names: Iterable[str], log: Path = CACHE / "release") -> None:
    """Runs each, unless it passed for this very commit before. Raises BundleError at the first that
    fails; its output is kept."""
    log.mkdir(parents=True, exist_ok=True)
    # Not as a part of the make that started this.
    env = {key: value for key, value in os.environ.items() if key not in _OF_MAKE}
    record = log / f"{commit}.json"
    passed: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
    for name in names:
        if name in passed:
            print(f"make {name}: passed at {passed[name]}", flush=True)
            continue
        output = log / f"{commit[:10]}-{name}.log"
        print(f"make {name} (output: {shown(output)})", flush=True)
        began = time.monotonic()
        with output.open("wb") as file:
            words = ["make", "--no-print-directory", "-C", str(ROOT), name]
            done = subprocess.run(
                words, stdout=file, stderr=subprocess.STDOUT, check=False, env=env
            )
        if done.returncode != 0:
            tail = "\n".join(output.read_text(errors="replace").splitlines()[-5:])
            raise BundleError(f"make {name} failed, see {shown(output)}:\n{tail}")
        passed[name] = datetime.now(UTC).isoformat(timespec="seconds")
        record.write_text(json.dumps(passed))
        print(f"  passed after {(time.monotonic() - began) / 60:.0f} minutes", flush=True)


def _build(into: Path) -> None:
    env = {**os.environ, build.FOR_A_RELEASE: "1"}
    words = [sys.executable, "-m", "bundling", "build", *ARCHES, "--into", into]
    run(words, env=env, cwd=ROOT)
    (wheel,) = (CACHE / "own").glob("neti-*.whl")
    shutil.copy(wheel, into)


def built_twice(make: Callable[[Path], None], into: Path) -> list[Path]:
    """The files in ``into``, which is new. Raises BundleError unless both times gave the same
    bytes; ``into`` is not there then."""
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".release-", dir=into.parent) as name:
        sums = []
        for turn in ("first", "second"):
            folder = Path(name, turn)
            folder.mkdir()
            print(f"building, the {turn} time", flush=True)
            make(folder)
            sums.append({file.name: _sum(file) for file in sorted(folder.iterdir())})
        first, second = sums
        other = [one for one in sorted({*first, *second}) if first.get(one) != second.get(one)]
        if other:
            raise BundleError(f"built twice, {', '.join(other)} differ: expected the same bytes")
        Path(name, "second").rename(into)
    return sorted(into.iterdir())


def _what(name: str) -> str:
    kinds = {
        ".deb": "Debian, Ubuntu",
        ".rpm": "Red Hat's and SUSE's kin",
        ".tar.gz": "any Linux, with install.sh",
        ".whl": "pip, Python 3.11 or later",
        ".cdx.json": "what is inside (CycloneDX)",
    }
    return next(what for suffix, what in kinds.items() if name.endswith(suffix))


def notes_of(
    section: changelog.Section, commit: str, files: Iterable[Path], skipped: Sequence[str]
) -> str:
    """For people: what they must do first."""
    lines = [f"# Neti {section.version}", "", f"{section.dated.isoformat()}, commit {commit}."]
    for heading, text in section.parts.items():
        if text:
            lines += ["", *([f"## {heading}", ""] if heading else []), text]
    lines += ["", "## Files", "", "| file | for | MB |", "|---|---|---|"]
    lines += [
        f"| {file.name} | {_what(file.name)} | {file.stat().st_size / 1e6:.1f} |" for file in files
    ]
    lines += [
        "",
        f"Check them: `gpg --verify {SUMS}.asc` and `sha256sum --check --ignore-missing {SUMS}`.",
    ]
    if skipped:
        lines += ["", f"Not run for this release: {', '.join(f'`make {one}`' for one in skipped)}."]
    return "\n".join(lines) + "\n"


def can_sign(key: str) -> None:
    """Raises BundleError: better now than after hours."""
    run(["gpg", "--batch", "--list-secret-keys", key])


def signed(folder: Path, files: Iterable[Path], key: str) -> None:
    """Writes SHA256SUMS of these files, and its signature, which is verified. Raises
    BundleError."""
    sums = folder / SUMS
    lines = [f"{_sum(file)}  {file.name}\n" for file in sorted(files)]
    sums.write_text("".join(lines), encoding="utf-8")
    run(["gpg", "--armor", "--local-user", key, "--detach-sign", sums])
    run(["gpg", "--batch", "--verify", f"{sums}.asc", sums])


def _sum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
