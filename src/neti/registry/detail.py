"""The detail document of a host: what runs there, for operators. Its writer and its reader. Pure.

What a host says about itself is untrusted text. A version, stage or code that is malformed is
ignored. A name is made printable, which does not make it safe in a command
(``neti.text.plain_name`` does).

Must never do: raise because of what another host wrote, or hand on what cannot be printed.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Final

from neti.text import printable

MAX_DETAIL_BYTES: Final = 16_384
MAX_CODES: Final = 20
# Of ``Document.encryption``: there is a device that works; and something in the clear is refused,
# or is again after 'neti up'.
ABLE: Final = frozenset({"prefer", "trial", "partly", "require"})
REQUIRING: Final = frozenset({"trial", "partly", "require", "require-unable"})
_MAX_NAME: Final = 64
_VERSION: Final = re.compile(r"[0-9][0-9A-Za-z.+~-]{0,31}", re.ASCII)
_STAGE: Final = re.compile(r"[a-z][a-z-]{0,15}", re.ASCII)
_DIGITS: Final = 12
_DIGEST: Final = re.compile(rf"[0-9a-f]{{{_DIGITS}}}", re.ASCII)
_CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """``name``: the host's name; ``pid``: its agent's; ``problems``: codes of what is wrong;
    ``encryption``: "off", "unable" (no device that works, or Neti is down), "require-unable" (the
    same, and "require" is in effect, or is after 'neti up'), "prefer", "trial" (of "require"),
    "partly" ("require" is in effect, but not with each other site), or "require" where it is with
    all; ``tunnel_port``: where those who encrypt call it; ``member_ports``: "none", "waiting",
    "trial" or "in-force"; ``gateways``: see ``gateways_named``. What it does not say
    is empty, or None for ``problems`` and numbers."""

    name: str = ""
    pid: int | None = None
    version: str = ""
    stage: str = ""
    problems: tuple[str, ...] | None = None
    encryption: str = ""
    tunnel_port: int | None = None
    member_ports: str = ""
    gateways: str = ""


def encode(document: Document) -> bytes:
    return json.dumps(asdict(document)).encode()


def decode(raw: bytes) -> Document:
    """What can be read of it; the rest is ignored."""
    try:
        held: Any = json.loads(raw[:MAX_DETAIL_BYTES])
    except (ValueError, RecursionError):
        return Document()
    if not isinstance(held, dict):
        return Document()
    name, pid, port = held.get("name"), held.get("pid"), held.get("tunnel_port")
    return Document(
        name=printable(name, _MAX_NAME) if isinstance(name, str) else "",
        pid=pid if type(pid) is int and 0 < pid < 1 << 32 else None,
        version=_text(held.get("version"), _VERSION),
        stage=_text(held.get("stage"), _STAGE),
        problems=_codes(held.get("problems")),
        encryption=_text(held.get("encryption"), _STAGE),
        tunnel_port=port if type(port) is int and 0 < port < 1 << 16 else None,
        member_ports=_text(held.get("member_ports"), _STAGE),
        gateways=_text(held.get("gateways"), _DIGEST),
    )


def gateways_named(by_site: Mapping[str, Iterable[str]]) -> str:
    """A digest of whom a neti.yml names as gateways, so that files can be told apart: hosts that
    name others wait for each other at different ones. Empty: it names none."""
    lists = [f"{site}={','.join(sorted(ids))}" for site, ids in sorted(by_site.items()) if ids]
    return sha256("\n".join(lists).encode()).hexdigest()[:_DIGITS] if lists else ""


def _text(value: object, form: re.Pattern[str]) -> str:
    return value if isinstance(value, str) and form.fullmatch(value) is not None else ""


def _codes(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(sorted({code for each in value if (code := _text(each, _CODE))})[:MAX_CODES])
