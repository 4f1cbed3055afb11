"""``python -m bundling lock | build | check``: see ``make bundle`` and ``make bundle-check``."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bundling import (
    ARCHES,
    ROOT,
    Arch,
    BundleError,
    archive,
    debian,
    host_files,
    sbom,
    shown,
    tree,
    wheels,
)
from bundling.command import run
from bundling.lock import Lock, Part, read, write
from neti import __version__
from neti.errors import NetiError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bundling")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser(
        "build", help="make dist/neti-VERSION-linux-ARCH.tar.gz, .deb, .rpm"
    )
    build.add_argument("arches", nargs="*", metavar="ARCH", help=" or ".join(ARCHES))
    build.add_argument("--into", type=Path, default=ROOT / "dist")
    commands.add_parser("lock", help="take the newest version of everything, and write lock.json")
    commands.add_parser("check", help="name what has a newer version; exit code 1 if anything has")
    asked = parser.parse_args()
    try:
        match asked.command:
            case "build":
                _build([_arch(word) for word in asked.arches] or [_native()], asked.into)
            case "lock":
                write(_newest())
            case "check":
                return _check()
    except NetiError as error:
        print(f"bundling: {error}", file=sys.stderr)
        return 1
    return 0


def _build(arches: Sequence[Arch], into: Path) -> None:
    lock, epoch, native = read(), _epoch(), _native()
    into.mkdir(parents=True, exist_ok=True)
    own = wheels.own(epoch)
    with tempfile.TemporaryDirectory(prefix="neti-bundle-") as name:
        work = Path(name)
        root = work / "root"
        host_files.lay_out(root)
        tree.usual_modes(root)
        for arch in [native, *(one for one in arches if one != native)]:
            made = _tree(arch, lock, own, work)
            tree.compiled(made, work / native / "neti", native)
            if arch in arches:
                _packed(arch, made, root, lock, into, work, epoch)


def _tree(arch: Arch, lock: Lock, own: Path, work: Path) -> Path:
    print(f"putting together what is to be /opt/neti, for {arch}", flush=True)
    there = work / arch
    unpacked, site, made = there / "debian", there / "site", there / "neti"
    unpacked.mkdir(parents=True)
    debian.unpacked(debian.Apt(arch).fetched(lock.debs[arch]).values(), unpacked)
    wheels.installed(arch, own, lock.wheels[arch], site)
    tree.put_together(arch, unpacked, site, made)
    shutil.copyfile(ROOT / "bundling/on_host/install.py", made / "lib/install.py")
    sbom.licences(lock, arch, unpacked, site, made / "share/licences")
    return made


def _packed(
    arch: Arch, made: Path, root: Path, lock: Lock, into: Path, work: Path, epoch: int
) -> None:
    bill = sbom.document(lock, arch, __version__, epoch)
    (made / "share/sbom.cdx.json").write_text(bill, encoding="utf-8")
    tree.usual_modes(made)
    if arch == _native():
        tree.works(made, arch)
    archive.dated(made, epoch)
    name = f"neti-{__version__}-linux-{arch}"
    (into / f"{name}.cdx.json").write_text(bill, encoding="utf-8")
    content = work / arch / "tarball"
    (content / "opt").mkdir(parents=True)
    shutil.copytree(made, content / "opt/neti", symlinks=True)
    shutil.copytree(root, content / "opt/neti/share/root", symlinks=True)
    shutil.copyfile(ROOT / "bundling/on_host/install.sh", content / "install.sh")
    (content / "install.sh").chmod(0o755)
    version = package_version(__version__, epoch)
    files = {
        "tarball": into / f"{name}.tar.gz",
        "deb": into / f"neti_{version}_{arch}.deb",
        "rpm": into / f"neti-{version}.{arch}.rpm",
    }
    archive.tarball(content, name, files["tarball"], epoch)
    archive.deb(made, root, version, arch, files["deb"], work / arch)
    archive.rpm(made, root, version, arch, files["rpm"], work / arch)
    for file in files.values():
        print(f"{shown(file)}: {file.stat().st_size / 1e6:.1f} MB", flush=True)
    print(f"installed: {tree.size(made) / 1e6:.1f} MB", flush=True)


def package_version(version: str, epoch: int) -> str:
    """Of the .deb and the .rpm. What is between releases is before the one to come, in the order of
    time: both managers sort a tilde before everything."""
    number, _, commit = version.partition("+")
    if not commit:
        return f"{number}-1"
    at = run(["date", "--utc", f"--date=@{epoch}", "+%Y%m%d%H%M"]).strip()
    return f"{number}~{at}.{commit}-1"


def _newest() -> Lock:
    own = wheels.own(_epoch())
    return Lock(
        debs={arch: tuple(debian.Apt(arch).newest()) for arch in ARCHES},
        wheels={arch: tuple(wheels.newest(arch, own)) for arch in ARCHES},
    )


def _check() -> int:
    held, newest = read(), _newest()
    news = 0
    for arch in ARCHES:
        for old, new in ((held.debs, newest.debs), (held.wheels, newest.wheels)):
            for line in differences(old[arch], new[arch]):
                print(f"{arch}: {line}")
                news += 1
    if news:
        print("→ python -m bundling lock, then make bundle and make package-test")
    else:
        print("the bundle has the newest version of everything")
    return min(news, 1)


def differences(held: Sequence[Part], newest: Sequence[Part]) -> list[str]:
    """A line for each part that is otherwise; the hash of one version is always the same."""
    had = {part.name: part for part in held}
    lines = [
        f"{part.name} {had[part.name].version} → {part.version}"
        if part.name in had
        else f"{part.name} {part.version} is new"
        for part in newest
        if part.name not in had or replace(had[part.name], suite=part.suite) != part
    ]
    there = {part.name for part in newest}
    return [*lines, *(f"{name} is needed no more" for name in sorted(had.keys() - there))]


def _native() -> Arch:
    return _arch(run(["dpkg", "--print-architecture"]).strip())


def _arch(word: str) -> Arch:
    for arch in ARCHES:
        if arch == word:
            return arch
    raise BundleError(f"{word}: expected {' or '.join(ARCHES)}, for which there is a bundle")


def _epoch() -> int:
    """Unix seconds that everything in the bundle is dated with: those of the last commit."""
    said = os.environ.get("SOURCE_DATE_EPOCH")
    if said is not None:
        return int(said)
    words = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
