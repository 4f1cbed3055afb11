"""Whom an operator wants admitted, and who would be kept out if only operators might begin a host.

Must never do: change anything.
"""

import sys
from pathlib import Path

from neti import files
from neti.errors import NetiError
from neti.registry import OperatorRegistry, admitted
from neti.registry.admitted import Asked


def read(source: str) -> list[Asked]:
    """Of a file; ``-``: of standard input. Raises NetiError that names it, line and value."""
    if source == "-":
        raw = sys.stdin.buffer.read(admitted.MAX_FILE_BYTES + 1)
        if len(raw) > admitted.MAX_FILE_BYTES:
            raise NetiError(f"standard input is longer than {admitted.MAX_FILE_BYTES:,} bytes")
        return admitted.read(raw, "standard input")
    try:
        raw = files.read(Path(source), admitted.MAX_FILE_BYTES)
    except OSError as error:
        raise NetiError(f"{source} cannot be read: {error.strerror}") from error
    return admitted.read(raw, source)


def without_record(registry: OperatorRegistry) -> list[str]:
    """Hosts that hold a lease and have no record, sorted: they could not register any more."""
    ids = set(registry.leases().values())
    return sorted(ids - registry.records(ids).keys())
