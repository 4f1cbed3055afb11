"""Whether agents of this version can read what operators told the whole fleet. Pure.

Must never do: leave out a setting that an agent reads, or raise.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

from neti.errors import RegistryError
from neti.registry import (
    SETTING_NAMES,
    SettingName,
    drained,
    groups,
    names,
    numbers,
    release,
    retired,
    revoked,
    strict,
)
from neti.text import printable

_SHOWN: Final = 40  # characters of a value
Reader = Callable[[bytes | None], object]


class _StrictUnreadable(RegistryError):
    """Agents go on as they were."""


def _strict(raw: bytes | None) -> None:
    if raw is not None and strict.decode(raw) is None:
        raise _StrictUnreadable(
            "the fleet-wide word about strictness is none that this version knows, and agents go "
            "on as they were\n→ neti registry strict"
        )


# Each raises RegistryError for what it cannot read. Any text is a word in ``asked``.
_READERS: Final[Mapping[SettingName, Reader]] = {
    "interval": partial(numbers.decode, "interval"),
    "maxchange": partial(numbers.decode, "maxchange"),
    "release": release.decode,
    "strict": _strict,
    "revoked": revoked.decode,
    "drained": drained.decode,
    "groups": groups.decode,
    "names": names.decode,
    "asked": lambda _word: None,
    "retired": retired.decode,
}
# Of those whose reader names key and value itself nothing has to be said besides.
_EXPECTED: Final[Mapping[SettingName, str]] = {
    "release": 'JSON, {"format": 1, "releases": …}',
    "strict": "'on' or 'off', and a time such as 2026-11-27T17:40:00Z",
    "revoked": "'1', and how revoked keys begin",
    "drained": "'1', and ids of hosts",
    "retired": 'JSON, {"format": 1, "words": …}',
}


def illegible(
    read: Callable[[SettingName], bytes | None],
) -> Iterator[tuple[SettingName, str]]:
    """Each setting that cannot be read, and why: with its value and what was expected, and what to
    do on lines of their own."""
    for setting in SETTING_NAMES:
        raw = read(setting)
        if raw is None:
            continue
        try:
            _READERS[setting](raw)
        except RegistryError as error:
            yield setting, _with_value(setting, raw, str(error))


def _with_value(setting: SettingName, raw: bytes, said: str) -> str:
    expected = _EXPECTED.get(setting)
    if expected is None:
        return said
    what, *steps = said.splitlines()
    value = printable(raw[: 4 * _SHOWN].decode(errors="replace"), _SHOWN)
    return "\n".join([f"is {value!r}, expected {expected}: {what}", *steps])
