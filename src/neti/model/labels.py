"""Labels: what a host says of itself, to look and filter by. Never a right. Pure."""

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from neti.text import printable

Labels = Mapping[str, str]

NO_LABELS: Final[Labels] = MappingProxyType({})
MOST_LABELS: Final = 16
MOST_VALUE_BYTES: Final = 64  # as UTF-8
LABEL_KEY: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)


def is_value(text: str) -> bool:
    """Whether it may stand behind a key: one line that shows as it is, without space around it."""
    fits = 0 < len(text.encode(errors="replace")) <= MOST_VALUE_BYTES
    return fits and text == text.strip() and printable(text, None) == text


def readable(held: object) -> Labels:
    """Of what another host wrote, the labels that are some; at most as many as a file may have."""
    if not isinstance(held, dict):
        return NO_LABELS
    found = {
        key: value
        for key, value in held.items()
        if isinstance(value, str) and _is_label(key, value)
    }
    return MappingProxyType(dict(sorted(found.items())[:MOST_LABELS]))


@lru_cache(maxsize=1024)  # a fleet of thousands has a handful of them
def _is_label(key: str, value: str) -> bool:
    return LABEL_KEY.fullmatch(key) is not None and is_value(value)


def in_words(labels: Labels) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(labels.items()))
