"""The tree /opt/neti: put together from Debian's files, wheels, and this clone.

Must never do: take anything from the machine that builds but its tools.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Final

from bundling import HOME, LOADER, PYTHON, ROOT, TRIPLET, Arch, BundleError, elf
from bundling.command import run

_LIB: Final = f"lib/python{PYTHON}"
SITE: Final = f"{_LIB}/dist-packages"  # as Debian's Python calls it
_TAG: Final = f".cpython-{PYTHON.replace('.', '')}"
# Libraries that nothing names as needed: ctypes loads the one, the C library the others. Of its own
# modules for /etc/nsswitch.conf all that are files: those of the host are of another version, and
# call what only their own has.
_LOADED: Final = (
    *("libnftables.so.1", "libgcc_s.so.1", "libresolv.so.2"),
    *("libnss_compat.so.2", "libnss_hesiod.so.2"),
)
# Of the standard library: tests, and what is for people who program.
_WITHOUT: Final = (
    *("test", "turtle.py", "turtledemo", "idlelib", "tkinter", "ensurepip", "venv", "pydoc_data"),
    *("_pyrepl", "dbm", "EXTERNALLY-MANAGED", "sitecustomize.py", "pdb.py", "this.py"),
    *(
        "antigravity.py",
        "__phello__",
        "__hello__.py",
        "_pydecimal.py",
        "_pydatetime.py",
        "_pyio.py",
    ),
    *("unittest", "doctest.py", "pydoc.py", "xmlrpc", "mailbox.py", "imaplib.py"),
    *("poplib.py", "smtplib.py", "ftplib.py", "profile.py", "cProfile.py", "pstats.py"),
)
_WITHOUT_MODULES: Final = (
    *("_test", "_xxtest", "xx", "readline", "_dbm", "_tkinter", "_codecs_"),
    *("_multibytecodec", "_lsprof"),
)
# Which the launcher's -X utf8 makes of no use: of what else a host's locale may say.
_WITHOUT_ENCODINGS: Final = (
    *("cp[0-9]*.py", "mac_*.py", "iso8859_*.py", "koi8_*.py", "iso2022_*.py", "big5*.py"),
    *("euc_*.py", "gb*.py", "shift_jis*.py", "johab.py", "hp_roman8.py", "tis_620.py"),
)
_KEPT_ENCODINGS: Final = ("cp437.py", "cp1252.py", "iso8859_1.py")  # zip files, and the web
# What wheels need to be built, and not to run; tests; what their former versions were like.
_NOT_TO_RUN: Final = (
    *(
        "pydantic/v1",
        "boto3/data/*",
        "boto3/examples",
        "dateutil/zoneinfo/*.tar.gz",
        "kazoo/tests",
        "kazoo/testing",
    ),
    *("urllib3/contrib/emscripten", "botocore/data/*/*/examples-1.json"),
)
# Of AWS's SDK what Neti calls, and what gives credentials; the descriptions of all other services
# are most of it.
CALLED: Final = ("ec2", "service-quotas", "sts")
_CREDENTIALS: Final = ("sso", "sso-oidc", "signin")
_COMPILER: Final[dict[Arch, str]] = {
    "amd64": "x86_64-linux-gnu-gcc",
    "arm64": "aarch64-linux-gnu-gcc",
}


def put_together(arch: Arch, debian: Path, site: Path, tree: Path) -> None:
    """``debian``: where its packages are unpacked; ``site``: where the wheels are; ``tree``: what
    is to be /opt/neti, not there yet. All but what differs by how it is installed."""
    (tree / "bin").mkdir(parents=True)
    (tree / "lib").mkdir()
    shutil.copy2(debian / f"usr/bin/python{PYTHON}", tree / "bin/python3")
    _standard_library(debian / f"usr/lib/python{PYTHON}", tree / _LIB)
    shutil.copytree(site, tree / SITE)
    shutil.copytree(debian / "usr/lib/python3/dist-packages", tree / SITE, dirs_exist_ok=True)
    _trimmed(tree / SITE)
    for library in elf.found(tree / SITE):
        run([f"{TRIPLET[arch]}-strip", "--strip-unneeded", library])
    _libraries(arch, debian, tree)
    elf.started_by_own_loader(tree / "bin/python3", arch)
    elf.reads_nothing_of_the_host(tree / "lib", arch)
    _launcher(arch, tree / "bin/neti")


def compiled(tree: Path, native: Path, native_arch: Arch) -> None:
    """Python's caches: root's commands would otherwise leave some that no package removes. They
    are the same for each architecture, and made by that which runs here (``native``)."""
    loader, python = native / "lib" / LOADER[native_arch], native / "bin/python3"
    started = [loader, "--library-path", native / "lib", "--argv0", python, python]
    checks = ["--invalidation-mode", "unchecked-hash", "-s", tree, "-p", HOME]
    # -B: what it imports itself would be written on the way, and with a date.
    words = [*started, "-B", "-s", "-P", "-m", "compileall", "-q", "-f", *checks, tree / _LIB]
    # The order in which sets are written depends on it.
    run(words, env={"PATH": os.defpath, "PYTHONHASHSEED": "0"})
    for cache in sorted((tree / _LIB).rglob("__pycache__")):
        if cache.is_relative_to(tree / SITE / "neti"):
            continue  # whoever looks into a host's Neti should be able to read it
        for path in cache.glob(f"*{_TAG}.pyc"):
            source = cache.parent / f"{path.name.removesuffix(f'{_TAG}.pyc')}.py"
            path.rename(source.with_suffix(".pyc"))  # which is found where there is no source
            source.unlink()
        cache.rmdir()


def usual_modes(tree: Path) -> None:
    """Whoever builds, with whatever umask."""
    for path in sorted(tree.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if runs else 0o644)
    tree.chmod(0o755)


def size(tree: Path) -> int:
    """Bytes, as a file system with blocks of 4 KiB holds it."""
    return sum(-(-path.lstat().st_size // 4096) * 4096 for path in tree.rglob("*"))


def _standard_library(source: Path, target: Path) -> None:
    def left_out(folder: str, names: list[str]) -> Iterable[str]:
        if Path(folder) == source:
            return [name for name in names if name in _WITHOUT]
        if folder.endswith("encodings"):
            old = (name for name in names if any(map(PurePath(name).match, _WITHOUT_ENCODINGS)))
            return [name for name in old if name not in _KEPT_ENCODINGS]
        if folder.endswith("lib-dynload"):
            return [name for name in names if name.startswith(_WITHOUT_MODULES)]
        return [name for name in names if name == "__pycache__"]

    shutil.copytree(source, target, ignore=left_out)


def _trimmed(site: Path) -> None:
    shutil.rmtree(site / "bin", ignore_errors=True)
    for path in site.glob("*.dist-info/*"):
        if path.name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "entry_points.txt"):
            path.unlink()
    for folder in (site / "botocore/data").iterdir():
        if folder.is_dir() and folder.name not in (*CALLED, *_CREDENTIALS):
            shutil.rmtree(folder)
        for former in sorted(path for path in folder.glob("*/") if folder.is_dir())[:-1]:
            shutil.rmtree(
                former, ignore_errors=True
            )  # versions of its API: the last one is asked for
    for pattern in _NOT_TO_RUN:
        for path in site.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in [*site.rglob("*.pyi"), *site.rglob("py.typed")]:
        path.unlink()


def _libraries(arch: Arch, debian: Path, tree: Path) -> None:
    """Each library that something in the tree needs, under the name by which it is asked for."""
    places = [debian / f"usr/lib/{TRIPLET[arch]}", debian / f"lib/{TRIPLET[arch]}"]
    wanted = {LOADER[arch], *_LOADED}
    for path in elf.found(tree):
        wanted.update(elf.needed(path))
    done = set[str]()
    while left := wanted - done:
        name = min(left)
        done.add(name)
        source = next((p / name for p in places if (p / name).exists()), None)
        if source is None:
            continue  # one of a wheel's own, or ``closed`` says that it is missing
        shutil.copy2(source.resolve(), tree / "lib" / name)
        wanted.update(elf.needed(tree / "lib" / name))
    elf.closed(tree, {path.name for path in (tree / "lib").glob("*.so*")})


def _launcher(arch: Arch, target: Path) -> None:
    source = ROOT / "bundling/launcher.c"
    flags = ["-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror", "-Wl,--build-id=none"]
    run([_COMPILER[arch], *flags, f'-DHOME="{HOME}"', "-o", target, source])


def works(tree: Path, arch: Arch) -> None:
    """Something that is missing is found here, not by a command on a host. Raises BundleError."""
    loader, python = tree / "lib" / LOADER[arch], tree / "bin/python3"
    started = [loader, "--library-path", tree / "lib", "--argv0", python, python, "-IB"]
    tried = (
        "import sys, ssl, sqlite3, uuid, ctypes, boto3, uvicorn, starlette, kazoo, pydantic, yaml\n"
        "assert boto3.__file__.startswith(sys.prefix), boto3.__file__\n"
        "ctypes.CDLL('libnftables.so.1')\n"
        f"for one in {CALLED!r}: boto3.Session().client(one, region_name='eu-west-1')\n"
        "import importlib, pkgutil, neti\n"
        "for one in pkgutil.walk_packages(neti.__path__, 'neti.'):\n"
        "    if one.name != 'neti.__main__': importlib.import_module(one.name)\n"
    )
    done = subprocess.run(
        [*map(str, started), "-c", tried],
        capture_output=True,
        text=True,
        check=False,
        env={"CRYPTOGRAPHY_OPENSSL_NO_LEGACY": "1"},  # as bin/neti says it
    )
    if done.returncode != 0:
        raise BundleError(f"the bundle for {arch} does not work here: {done.stderr.strip()}")
