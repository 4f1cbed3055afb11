"""Rules in nft's words -> nf_tables messages and back, by libnftables in a child process.

If the child crashes, hangs or finds no library, that is an error with a sentence, and this process
lives on. What was compiled once is kept as long as this process lives.

Must never do: load the library into this process.
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from neti.dataplane import libnftables
from neti.dataplane.netlink import Order, attribute, attributes, headed, message, without
from neti.dataplane.nf_tables import NEWSET, NFGEN_BYTES, SUBSYSTEM
from neti.errors import DataplaneError, RulesRefused
from neti.text import printable
from neti.words import why

_CHILD: Final = Path(libnftables.__file__)
_PATIENCE: Final = 20.0  # seconds; 0.05 is usual
_SHOWN: Final = 600
_KEPT: Final = 8
_NOTES: Final = 13  # NFTA_SET_USERDATA
_TYPEOF: Final = (3, 4)  # NFTNL_UDATA_SET_KEY_TYPEOF, NFTNL_UDATA_SET_DATA_TYPEOF


def compile_rules(text: str) -> tuple[Order, ...]:
    """The messages of one transaction, without its begin and end. Raises DataplaneError."""
    return _compiled(text)


@lru_cache(maxsize=_KEPT)
def _compiled(text: str) -> tuple[Order, ...]:
    orders = tuple(
        (kind, flags, _without_typeof(body) if kind == NEWSET else body)
        for kind, flags, _, body in headed(_run_child(text.encode()))
        if kind >> 8 == SUBSYSTEM
    )
    if not orders:
        raise DataplaneError("libnftables made nothing of the rules")
    return orders


def _without_typeof(body: bytes) -> bytes:
    """A set without the library's note of the expression that its keys or values are like. Versions
    before 1.1.4 die of such a note if they do not know the expression, and 1.1.2 and later note one
    for each set: so would the nft of this host, or of a container, as soon as it lists our table.
    Without it a set has the types that the kernel keeps. The other notes stay: without the order of
    bytes nft prints names of interfaces as empty, and cannot load what it printed."""
    noted = next((v for k, v in attributes(body[NFGEN_BYTES:]) if k == _NOTES), b"")
    kept = b"".join(noted[at : at + size] for at, size in _notes(noted) if noted[at] not in _TYPEOF)
    rest = without(body[NFGEN_BYTES:], _NOTES)
    return body[:NFGEN_BYTES] + rest + (attribute(_NOTES, kept) if kept else b"")


def _notes(noted: bytes) -> Iterator[tuple[int, int]]:
    """(offset, bytes) of each: a type, a length, and as many bytes, as libnftnl writes them."""
    at = 0
    while at + 2 <= len(noted):
        yield at, 2 + noted[at + 1]
        at += 2 + noted[at + 1]


def printed(command: str, holds: Iterable[tuple[int, bytes]]) -> str:
    """What the library says to ``command`` where the kernel holds what these messages say: type and
    payload of each, as a kernel told them. Raises DataplaneError."""
    written = b"".join(message(kind, body) for kind, body in holds)
    return _run_child(written, command).decode(errors="backslashreplace")


def _run_child(given: bytes, *arguments: str) -> bytes:
    # -I -S: only the standard library is found, wherever this process was started.
    command = [sys.executable, "-I", "-S", "-B", str(_CHILD), *arguments]
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DataplaneError(f"libnftables did not answer in {_PATIENCE:.0f} s") from error
    except OSError as error:
        raise DataplaneError(f"libnftables' process cannot be started: {why(error)}") from error
    doing = "printed" if arguments else "written"
    if done.returncode < 0:
        raise DataplaneError(
            f"libnftables crashed (signal {-done.returncode}): the rules cannot be {doing}"
        )
    said = printable(done.stderr.decode(errors="backslashreplace").strip(), _SHOWN)
    if done.returncode == libnftables.NO_LIBRARY:
        raise DataplaneError(
            "libnftables cannot be loaded: install the package libnftables1 (Debian, Ubuntu)"
        )
    if done.returncode != 0:
        raise RulesRefused(f"nftables refused the rules: {said}")
    return done.stdout
