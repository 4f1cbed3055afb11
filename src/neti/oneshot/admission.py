"""Whom an operator wants admitted, and who would be kept out if only operators might begin a host.

Must never do: change anything.
"""

import sys
from pathlib import Path

from neti import files
from neti.errors import NetiError
from neti.registry import OperatorRegistry, admitted
from neti.registry.admitted import Asked
from neti.registry.groups import decode


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


def anybodys(registry: OperatorRegistry) -> dict[str, list[str]]:
    """By group, its patterns, and its ids that have no record, and so no owner: if anybody might
    begin a host, anybody could be in it. Raises GroupsUnreadable: agents may follow the last that
    could be read."""
    lines = decode(registry.setting("groups")).lines
    ids = {one.pattern for of in lines.values() for one in of if one.is_id}
    owned = registry.records(ids).keys()
    every = {
        name: list(dict.fromkeys(one.pattern for one in of if one.pattern not in owned))
        for name, of in lines.items()
    }
    return {name: free for name, free in every.items() if free}


def without_record(registry: OperatorRegistry) -> list[str]:
    """Hosts that hold a lease and have no record, sorted: they could not register any more."""
    ids = set(registry.leases().values())
    return sorted(ids - registry.records(ids).keys())
