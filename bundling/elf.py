"""Programs and libraries of the bundle: which others they need, and where they look for them.

By patchelf, which reads and writes files of any architecture.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from bundling import HOME, LOADER, Arch, BundleError
from bundling.command import run

_MAGIC: Final = b"\x7fELF"
# What the loader would read of the host, and what it reads instead: nothing. Of the same length,
# for these are bytes in a program.
_HOSTS: Final = (
    (b"/etc/ld.so.preload\0", b"/opt/neti/preload\0\0"),
    (b"/etc/ld.so.cache\0", b"/opt/neti/cached\0"),
)


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


def reads_nothing_of_the_host(loader: Path) -> None:
    """The host's cache names libraries of another C library; what it preloads is for programs of
    that. Raises BundleError where the loader is not as it was known."""
    data = loader.read_bytes()
    for before, after in _HOSTS:
        assert len(before) == len(after)
        if data.count(before) != 1:
            raise BundleError(
                f"{loader.name}: {before!r} was expected once: look at bundling/elf.py"
            )
        data = data.replace(before, after)
    loader.write_bytes(data)
