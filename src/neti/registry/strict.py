"""The operators' word whether only what hosts' records name is believed. Its writer and reader.

It stands in the registry as the live setting ``strict``: ``on 2026-11-27T17:40:00Z``, or ``off``
and when that was said. The time is for people. Pure.

Must never do: raise, whatever the text, or take what it does not know for a word.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_WORD: Final = re.compile(rb"(on|off) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\s*")


@dataclass(frozen=True, slots=True)
class Strict:
    """``since``: when it was said, in UTC, as an ISO 8601 text."""

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
    """None where nothing was ever said, or nothing that this version knows."""
    match = _WORD.fullmatch(raw) if raw is not None else None
    return Strict(match[1] == b"on", match[2].decode()) if match is not None else None
