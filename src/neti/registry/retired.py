"""Hosts that operators took out of the fleet, as every agent reads it. Its writer and its reader.
Pure. See docs/design/moving.md.

It is the live setting ``retired`` in the registry. An agent that finds its own id in it says
goodbye and does not register; the others let such a host go without asking the guard. Members
cannot write it. Also which overlay address an operator gave to which other host, so that a move
that was cut off is gone on with, and none is done twice; and who was taken back, because an agent
remembers the word, and no silence of a registry ends it.

Must never do: raise anything but RetiredUnreadable, whatever the text; or be read in part, because
a host that is left out would come back.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Any, Final, TypeVar

from neti.errors import RegistryError
from neti.model.entry import HOST_ID
from neti.text import printable

FORMAT: Final = 1
# Servers are configured to accept no request of more than 65,536 bytes: some 2,500 hosts.
MAX_BYTES: Final = 60_000
_ALWAYS: Final = 2_000  # bytes more, so that there is always room to take a host back
_WHOLE: Final = 100  # words that stay whole when there is no room for all
_MAX_TEXT: Final = 64
_DAY: Final = 86_400  # seconds
_LAST_TIME: Final = 253_402_300_799  # the last second that people can be shown

_Said = TypeVar("_Said")


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
    return _read(raw)[0]


def taken_back(raw: bytes | None) -> dict[str, int]:
    """By id when (Unix seconds): later than what was said of the host before. Only the last that
    there was room for. Raises RetiredUnreadable."""
    return _read(raw)[1]


def _read(raw: bytes | None) -> tuple[dict[str, Retired], dict[str, int]]:
    if not raw:
        return {}, {}
    try:
        document = json.loads(raw)
        if document["format"] != FORMAT:
            raise ValueError("another version's")
        words = {_id(each): _one(word) for word in document["words"] for each in word["ids"]}
        groups = document.get("back", [])
        return words, {_id(each): _time(group["at"]) for group in groups for each in group["ids"]}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RetiredUnreadable(
            "the fleet-wide list of retired hosts is not what 'neti retire' of this version "
            "writes: upgrade this host. If no version wrote it, an operator deletes it ('delete' "
            "in zkCli.sh, of PREFIX/retired): retired hosts that have followed it stay out, and "
            "the others come back"
        ) from error


def added(raw: bytes | None, words: Mapping[str, Retired]) -> bytes:
    """The setting with these hosts too; what is said of them replaces what was. Raises
    RetiredUnreadable, and RegistryError where there is no room for them."""
    held, back = _read(raw)
    others = {host_id: word for host_id, word in held.items() if host_id not in words}
    later = {i: replace(word, at=max(word.at, back.pop(i, -1) + 1)) for i, word in words.items()}
    document = _with_room({**others, **later}, back, beside=words)
    if len(document) > MAX_BYTES:
        raise RegistryError(
            f"the registry has no room to retire {len(words)} more hosts: {len(others)} are retired"
            "\n→ neti retire --list, then neti retire --back ID for those whose machines are gone"
        )
    return document


def without(raw: bytes | None, ids: Collection[str], *, now: int) -> bytes:
    """The setting without these, who are taken back ``now`` (Unix seconds), also if it did not know
    them. Raises RetiredUnreadable."""
    held, back = _read(raw)
    for host_id in ids:
        word = held.pop(host_id, None)
        back[host_id] = max(now, back.get(host_id, 0), word.at + 1 if word is not None else 0)
    return _with_room(held, back, limit=MAX_BYTES + _ALWAYS)


def _shortened(words: Mapping[str, Retired], *, beside: Collection[str]) -> dict[str, Retired]:
    """All but the latest, and those ``beside``, without what only a move that was cut off needs,
    and by the day, so that one text stands for many. Their times only grow: a word from which a
    host was taken back before must not look like that one."""
    latest = sorted(words, key=lambda i: words[i].at)[-_WHOLE:]
    old = {i: (words[i].by, words[i].at // _DAY) for i in words.keys() - set(beside) - set(latest)}
    last: dict[tuple[str, int], int] = {}
    for i, day in old.items():
        last[day] = max(words[i].at, last.get(day, 0))
    return {**words, **{i: Retired(at=last[day], by=day[0]) for i, day in old.items()}}


def _with_room(
    words: Mapping[str, Retired],
    back: Mapping[str, int],
    *,
    beside: Collection[str] = (),
    limit: int = MAX_BYTES,
) -> bytes:
    """Words are shortened first, except those ``beside``; then those who were taken back longest
    ago make room."""
    document = encode(words, back)
    if len(document) > limit:
        words = _shortened(words, beside=beside)
        document = encode(words, back)
    latest = sorted(back, key=lambda i: back[i])
    while len(document) > limit and latest:
        latest = latest[(len(latest) + 1) // 2 :]
        document = encode(words, {host_id: back[host_id] for host_id in latest})
    return document


def encode(words: Mapping[str, Retired], back: Mapping[str, int] | None = None) -> bytes:
    """Those of whom the same is said stand together. Raises RegistryError for what no agent could
    read: one such word would make the list useless for the whole fleet, and keep all others out of
    it."""
    plain = [{"ids": ids, **_plain(word)} for word, ids in _together(words)]
    let_in = [{"at": at, "ids": ids} for at, ids in _together(back or {})]
    whole = {"format": FORMAT, "words": plain, **({"back": let_in} if let_in else {})}
    document = json.dumps(whole, separators=(",", ":")).encode()
    try:
        decode(document)
    except RetiredUnreadable as error:
        raise RegistryError(
            f"no agent could read that, so nothing was written: {error.__cause__}"
        ) from error
    return document


def _together(said: Mapping[str, _Said]) -> list[tuple[_Said, list[str]]]:
    alike: dict[_Said, list[str]] = {}
    for host_id, each in sorted(said.items(), key=lambda one: one[0]):
        alike.setdefault(each, []).append(host_id)
    return [*alike.items()]


def _plain(word: Retired) -> dict[str, Any]:
    moved = {"to": word.to, "overlay": str(word.overlay)} if word.to is not None else {}
    return {"at": word.at, "by": printable(word.by, _MAX_TEXT), **moved}


def _id(held: Any) -> str:
    if not isinstance(held, str) or HOST_ID.fullmatch(held) is None:
        raise ValueError(f"{held!r} is no host id")
    return held


def _time(held: Any) -> int:
    if type(held) is not int or not 0 <= held <= _LAST_TIME:
        raise ValueError("no time")
    return held


def _one(held: Mapping[str, Any]) -> Retired:
    by, to = held.get("by"), held.get("to")
    return Retired(
        at=_time(held["at"]),
        by=printable(by, _MAX_TEXT) if isinstance(by, str) else "",
        to=None if to is None else _id(to),
        overlay=None if to is None else IPv4Address(held["overlay"]),
    )
