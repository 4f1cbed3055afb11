"""Whether only entries that hosts' records name are believed, as operators set it. Writer, reader.

It is the live setting ``strict`` in the registry: ``on 2026-11-27T17:40:00Z``, or ``off`` and when
that was set. The time is for people. Pure.

Must never do: raise, whatever the text, or take an unknown text for "on".
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_WORD: Final = re.compile(rb"(on|off) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\s*")


@dataclass(frozen=True, slots=True)
class Strict:
    """``since``: when it was set, in UTC, as an ISO 8601 text."""

    on: bool
    since: str


def encode(*, on: bool, now: float) -> bytes:
    """``now``: Unix seconds."""
    said = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{'on' if on else 'off'} {said}".encode()


def is_strict(raw: bytes | None) -> bool:
    said = decode(raw)
    return said is not None and said.on


def decode(raw: bytes | None) -> Strict | None:
    """None if it was never set, or not to anything that this version knows."""
    match = _WORD.fullmatch(raw) if raw is not None else None
    return Strict(match[1] == b"on", match[2].decode()) if match is not None else None
