"""Debian packages for the bundle, by an apt of its own that leaves the machine's alone.

apt checks the releases' signatures, and the lock the hash of each file.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cmp_to_key
from pathlib import Path
from typing import Final

from bundling import CACHE, PYTHON, Arch, BundleError
from bundling.command import run
from bundling.lock import Part

RELEASE: Final = "trixie"
# What the bundle takes of a later release: libnftables before 1.1.4 dies of sets that a newer nft
# made (a null pointer, when it lists their userdata). These need no C library but RELEASE's.
LATER: Final = "forky"
_SUITES: Final = (RELEASE, f"{RELEASE}-updates", f"{RELEASE}-security")
OF_RELEASE: Final = (
    "gcc-14-base",  # has the licence of libgcc-s1, and nothing else
    "libbz2-1.0",
    "libc6",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "libgmp10",
    "libjansson4",
    "libncursesw6",
    "liblzma5",
    f"libpython{PYTHON}-minimal",
    f"libpython{PYTHON}-stdlib",
    "libsqlite3-0",
    "libssl3t64",
    "libtinfo6",
    "libuuid1",
    "libxtables12",
    "libzstd1",
    f"python{PYTHON}-minimal",
    # Linked with Debian's OpenSSL; the wheel on PyPI has a second one inside.
    "python3-cffi-backend",
    "python3-cryptography",
    "zlib1g",
)
OF_LATER: Final = ("libmnl0", "libnftables1", "libnftnl11")
_KEYS: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True, slots=True)
class Offered:
    """A package as an index has it."""

    name: str
    version: str
    suite: str
    sha256: str


class Apt:
    """For one architecture. Not thread-safe."""

    def __init__(self, arch: Arch) -> None:
        self.arch = arch
        self._root = CACHE / f"apt-{arch}"
        self._files = CACHE / "debs"

    def newest(self) -> list[Part]:
        """Of each package the newest version, with its hash; nothing is fetched but indexes.
        Raises BundleError."""
        self._update()
        offered: dict[str, list[Offered]] = {}
        for one in self._offered():
            if one.name in (OF_LATER if one.suite == LATER else OF_RELEASE):
                offered.setdefault(one.name, []).append(one)
        missing = {*OF_RELEASE, *OF_LATER} - offered.keys()
        if missing:
            raise BundleError(f"Debian's indexes do not have {', '.join(sorted(missing))}")
        found = (max(those, key=cmp_to_key(_older)) for those in offered.values())
        return [
            Part(one.name, one.version, _file_of(one, self.arch), one.sha256, one.suite)
            for one in found
        ]

    def fetched(self, parts: Iterable[Part]) -> Mapping[str, Path]:
        """By package name the file, with the hash that the lock says. Raises BundleError."""
        wanted = {part.name: part for part in parts}
        self._files.mkdir(parents=True, exist_ok=True)
        held = {name: self._files / part.file for name, part in wanted.items()}
        absent = [part for name, part in wanted.items() if not _is(held[name], part)]
        if absent:
            self._update()
        for part in absent:
            words = f"{part.name}:{self.arch}={part.version}"
            try:
                run(["apt-get", *self._options(), "download", words], cwd=self._files)
            except BundleError as error:
                raise BundleError(
                    f"{part.name} {part.version} is not to be had ({error}). If the registry has a "
                    "newer one: python -m bundling lock"
                ) from error
            if not _is(held[part.name], part):
                raise BundleError(f"{part.file} is not what the lock says: its SHA-256 differs")
        return held

    def _update(self) -> None:
        for folder in ("etc/apt", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial"):
            (self._root / folder).mkdir(parents=True, exist_ok=True)
        (self._root / "var/lib/dpkg").mkdir(parents=True, exist_ok=True)
        (self._root / "var/lib/dpkg/status").touch()
        lines = [
            f"deb [signed-by={_KEYS}] {site} {suite} main"
            for suite in (*_SUITES, LATER)
            for site in [_mirror(security=suite.endswith("-security"))]
        ]
        (self._root / "etc/apt/sources.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
        run(["apt-get", *self._options(), "update", "-qq"])

    def _options(self) -> list[str]:
        settings = {
            "Dir": self._root,
            "Dir::Etc::sourceparts": "-",
            "Dir::Etc::parts": "/etc/apt/apt.conf.d",  # this machine's proxy, if it has one
            "Dir::State::status": self._root / "var/lib/dpkg/status",
            "APT::Architecture": self.arch,
            "APT::Architectures": self.arch,
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::GzipIndexes": "false",
        }
        return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]

    def _offered(self) -> Iterator[Offered]:
        form = "$(FILENAME)\t$(CODENAME)\t$(SUITE)"
        listed = run(
            ["apt-get", *self._options(), "indextargets", "--format", form, "Created-By: Packages"]
        )
        for line in listed.splitlines():
            path, codename, suite = line.split("\t")
            name = codename if codename in (*_SUITES, LATER) else suite
            yield from _read(Path(path), name)


def unpacked(files: Iterable[Path], into: Path) -> None:
    for file in files:
        run(["dpkg-deb", "-x", file, into])


def _mirror(*, security: bool) -> str:
    """Where this machine's apt gets Debian."""
    sites = run(["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"])
    fit = [site for site in dict.fromkeys(sites.split()) if _is_debian(site, security)]
    if not fit:
        what = "Debian's security updates" if security else "Debian"
        raise BundleError(f"apt has no source for {what} on this machine")
    return fit[0]


def _is_debian(site: str, security: bool) -> bool:
    last = site.rstrip("/").rsplit("/", 1)[-1]
    return last == ("debian-security" if security else "debian")


def _read(index: Path, suite: str) -> Iterator[Offered]:
    try:
        text = index.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BundleError(f"{index} cannot be read: {error}") from error
    wanted = {*OF_RELEASE, *OF_LATER}
    for stanza in text.split("\n\n"):
        if stanza.startswith("Package: ") and stanza[9:].partition("\n")[0] in wanted:
            fields = dict(
                line.split(": ", 1)
                for line in stanza.splitlines()
                if ": " in line and not line.startswith(" ")
            )
            yield Offered(fields["Package"], fields["Version"], suite, fields["SHA256"])


def _older(one: Offered, other: Offered) -> int:
    if one.version == other.version:
        return 0
    words = ["dpkg", "--compare-versions", one.version, "lt", other.version]
    return -1 if os.spawnvp(os.P_WAIT, "dpkg", words) == 0 else 1


def _file_of(one: Offered, arch: Arch) -> str:
    """As ``apt-get download`` calls it."""
    return f"{one.name}_{one.version.replace(':', '%3a')}_{arch}.deb"


def _is(file: Path, part: Part) -> bool:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() == part.sha256
    except FileNotFoundError:
        return False
