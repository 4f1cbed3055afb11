"""Programs and libraries of the bundle: which others they need, and where they look for them.

By patchelf, which reads and writes files of any architecture.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from bundling import HOME, LOADER, TRIPLET, Arch, BundleError
from bundling.command import run

_MAGIC: Final = b"\x7fELF"
# Of the host, what its C library, OpenSSL and iptables have for programs of their own: modules, and
# files that name modules or have a format of their own. With another beginning there are none.
_HOSTS: Final = {
    "ld-linux-*": ("/etc/ld.so.preload", "/etc/ld.so.cache"),
    "libc.so.6": (
        "/usr/lib/{triplet}/gconv",
        "/usr/lib/{triplet}/gconv/gconv-modules.cache",
        "/usr/lib/locale",
        "/usr/lib/locale/locale-archive",
    ),
    "libcrypto.so.3": (
        "/usr/lib/ssl",  # openssl.cnf; cert.pem and certs have paths of their own
        "/usr/lib/{triplet}/engines-3",
        "/usr/lib/{triplet}/ossl-modules",
    ),
    "libxtables.so.12": ("/usr/lib/{triplet}/xtables",),
}
_NOWHERE: Final = f"{HOME}/".encode()


def found(folder: Path) -> Iterator[Path]:
    """Each program and library below ``folder``."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == _MAGIC:
                    yield path


def needed(path: Path) -> list[str]:
    return run(["patchelf", "--print-needed", path]).split()


def closed(tree: Path, names: Iterable[str]) -> None:
    """Raises BundleError if anything in ``tree`` needs a library that is not one of ``names``, nor
    beside it in its own package."""
    held = set(names)
    for path in found(tree):
        beside = {each.name for each in path.parent.parent.rglob("*.so*")}
        missing = [each for each in needed(path) if each not in held and each not in beside]
        if missing:
            raise BundleError(
                f"{path.relative_to(tree)} needs {', '.join(missing)}, which the bundle has not: "
                "bundling/debian.py says which packages are in it"
            )


def started_by_own_loader(program: Path, arch: Arch) -> None:
    """``program`` is started by the bundle's loader, and finds its libraries and those of whatever
    it loads there. As DT_RPATH, which goes before LD_LIBRARY_PATH; see ld.so(8)."""
    run(["patchelf", "--set-interpreter", f"{HOME}/lib/{LOADER[arch]}", program])
    run(["patchelf", "--force-rpath", "--set-rpath", f"{HOME}/lib", program])


def reads_nothing_of_the_host(folder: Path, arch: Arch) -> None:
    """Changes the paths in the libraries in ``folder`` by which they would find the host's modules,
    which are built for other versions of them. Raises BundleError where a library is not as it was
    known."""
    for name, paths in _HOSTS.items():
        (library,) = folder.glob(name)
        data = library.read_bytes()
        for path in paths:
            # A string of its own, of the same length afterwards: these are bytes in a program.
            before = b"\0%s\0" % path.format(triplet=TRIPLET[arch]).encode()
            after = b"\0" + _NOWHERE + before[1 + len(_NOWHERE) :]
            if data.count(before) != 1:
                raise BundleError(
                    f"{library.name}: {before!r} was expected once: look at bundling/elf.py"
                )
            data = data.replace(before, after)
        library.write_bytes(data)
