"""Hosts that operators took out of the fleet, as every agent reads it. Its writer and its reader.
Pure. See docs/design/moving.md.

It is the live setting ``retired`` in the registry. An agent that finds its own id in it says
goodbye and does not register; the others let such a host go without asking the guard. Members
cannot write it. Also which overlay address an operator gave to which other host, so that a move
that was cut off is gone on with, and none is done twice.

Must never do: raise anything but RetiredUnreadable, whatever the text; or be read in part, because
a host that is left out would come back.
"""

import contextlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Final

from neti.errors import RegistryError
from neti.model.entry import HOST_ID
from neti.text import printable

FORMAT: Final = 1
# Servers are configured to accept no request of more than 65,536 bytes: some 2,500 hosts.
MAX_BYTES: Final = 60_000
_MAX_TEXT: Final = 64
_LAST_TIME: Final = 253_402_300_799  # the last second that people can be shown


class RetiredUnreadable(RegistryError):
    """A newer version wrote it, or it is no list of hosts at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """``at`` (Unix seconds) and ``by``: for people; ``to``: the host that gets its overlay address
    ``overlay``; None: nobody does."""

    at: int
    by: str
    to: str | None = None
    overlay: IPv4Address | None = None


def decode(raw: bytes | None) -> dict[str, Retired]:
    """By id. Raises RetiredUnreadable."""
    if not raw:
        return {}
    try:
        document = json.loads(raw)
        if document["format"] != FORMAT:
            raise ValueError("another version's")
        return {_id(each): _one(word) for word in document["words"] for each in word["ids"]}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RetiredUnreadable(
            "the fleet-wide list of retired hosts is not what 'neti retire' of this version "
            "writes: upgrade this host, or have an operator delete it from the registry"
        ) from error


def as_read(raw: bytes | None) -> dict[str, Retired]:
    """For who only looks: nobody where it cannot be read."""
    with contextlib.suppress(RetiredUnreadable):
        return decode(raw)
    return {}


def added(raw: bytes | None, words: Mapping[str, Retired]) -> bytes:
    """The setting with these hosts too; what is said of them replaces what was. Raises
    RetiredUnreadable, and RegistryError where there is no room for them."""
    held = {host_id: word for host_id, word in decode(raw).items() if host_id not in words}
    document = encode({**held, **words})
    if len(document) > MAX_BYTES:
        raise RegistryError(
            f"the registry has no room to retire {len(words)} more hosts: {len(held)} are retired\n"
            "→ neti retire --list, then neti retire --back ID for those whose machines are gone"
        )
    return document


def without(raw: bytes | None, ids: Collection[str]) -> bytes | None:
    """The setting without these; None for nobody: it is then deleted. Raises RetiredUnreadable."""
    held = {host_id: word for host_id, word in decode(raw).items() if host_id not in ids}
    return encode(held) if held else None


def encode(words: Mapping[str, Retired]) -> bytes:
    """Those of whom the same is said stand together. Raises RegistryError for what no agent could
    read: one such word would make the list useless for the whole fleet, and keep all others out of
    it."""
    alike: dict[Retired, list[str]] = {}
    for host_id, word in sorted(words.items()):
        alike.setdefault(word, []).append(host_id)
    plain = [{"ids": together, **_plain(word)} for word, together in alike.items()]
    document = json.dumps({"format": FORMAT, "words": plain}, separators=(",", ":")).encode()
    try:
        decode(document)
    except RetiredUnreadable as error:
        raise RegistryError(
            f"no agent could read that, so nothing was written: {error.__cause__}"
        ) from error
    return document


def _plain(word: Retired) -> dict[str, Any]:
    moved = {"to": word.to, "overlay": str(word.overlay)} if word.to is not None else {}
    return {"at": word.at, "by": printable(word.by, _MAX_TEXT), **moved}


def _id(held: Any) -> str:
    if not isinstance(held, str) or HOST_ID.fullmatch(held) is None:
        raise ValueError(f"{held!r} is no host id")
    return held


def _one(held: Mapping[str, Any]) -> Retired:
    at, by = held["at"], held.get("by")
    if type(at) is not int or not 0 <= at <= _LAST_TIME:
        raise ValueError("no time")
    to = held.get("to")
    return Retired(
        at=at,
        by=printable(by, _MAX_TEXT) if isinstance(by, str) else "",
        to=None if to is None else _id(to),
        overlay=None if to is None else IPv4Address(held["overlay"]),
    )
