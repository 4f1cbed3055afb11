"""How what is wrong with an operators' document in the registry is said. Pure."""

from typing import Any, Final

from neti.text import json_document, printable

_SHOWN: Final = 60  # characters of what is wrong


class Wrong(ValueError):
    """What is wrong with a document, as a predicate: "has no groups"."""


def of_format(held: Any, number: int) -> dict[str, Any]:
    """A document of format ``number``. Raises Wrong."""
    if not isinstance(held, dict):
        raise Wrong("is no JSON object")
    if held.get("format") != number:
        raise Wrong(f"has format {said(held.get('format'))}, not {number}")
    return held


def said(value: object) -> str:
    """What is nested may be so too deeply to be written again."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return printable(json_document(value), _SHOWN)
