"""The detail document of a host: who runs there, for operators. Its writer and its reader. Pure.

Must never do: raise because of what another host wrote, or hand on what cannot be printed.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from neti.text import printable

MAX_DETAIL_BYTES: Final = 16_384
_MAX_TEXT: Final = 64
_MAX_PROBLEMS: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """``name``: the host's name; ``pid``: its agent's; ``problems``: codes of what is wrong."""

    name: str = ""
    pid: int | None = None
    version: str = ""
    stage: str = ""
    problems: tuple[str, ...] = ()


def encode(document: Document) -> bytes:
    return json.dumps(asdict(document)).encode()


def decode(raw: bytes) -> Document:
    """What can be read of it: anything else is as if it was not there."""
    try:
        held: Any = json.loads(raw[:MAX_DETAIL_BYTES])
    except (ValueError, RecursionError):
        return Document()
    if not isinstance(held, dict):
        return Document()
    pid, problems = held.get("pid"), held.get("problems")
    return Document(
        name=_text(held.get("name")),
        pid=pid if type(pid) is int and 0 < pid < 1 << 32 else None,
        version=_text(held.get("version")),
        stage=_text(held.get("stage")),
        problems=tuple(_text(each) for each in problems[:_MAX_PROBLEMS])
        if isinstance(problems, list)
        else (),
    )


def _text(value: object) -> str:
    return printable(value, _MAX_TEXT) if isinstance(value, str) else ""
