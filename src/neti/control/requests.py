"""What a command may say to the agent: the names and the types of its arguments. Pure.

A new argument of a command is declared here, or it is refused. Must never do: let anything through
that is not of its declared type, or raise anything but ValueError.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from neti.model.openings import LONGEST, SHORTEST
from neti.text import printable

Check = Callable[[Any], bool]

_MOST_IDS: Final = 20_000
_LONGEST_ID: Final = 200
_MOST_PORTS: Final = 8
_LAST_PORT: Final = 65_535
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}/(tcp|udp)", re.ASCII)
_SHOWN: Final = 60
_LAST_TIME: Final = 1e11  # seconds since the epoch: beyond any clock


def _whole(low: int, high: int) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def _yes_or_no(value: Any) -> bool:
    return isinstance(value, bool)


def _time(value: Any) -> bool:
    """Seconds since the epoch; a whole number may be too large for a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= _LAST_TIME


def _ids(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _MOST_IDS
        and all(isinstance(each, str) and 0 < len(each) <= _LONGEST_ID for each in value)
    )


def _name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_ID


def _ports(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _MOST_PORTS
        and all(isinstance(each, str) and _is_port(each) for each in value)
    )


def _is_port(text: str) -> bool:
    return bool(_PORT.fullmatch(text)) and int(text.partition("/")[0]) <= _LAST_PORT


def _document(value: Any) -> bool:
    """Judged further by whoever takes it."""
    return isinstance(value, dict)


# (what was expected, in words; whether it is that). None is always "not said".
_ONE_PORT: Final = ("a whole number from 1 to 65535", _whole(1, _LAST_PORT))
_SPAN: Final = {
    "first": _ONE_PORT,
    "last": _ONE_PORT,
    "proto": ("tcp or udp", lambda value: value in ("tcp", "udp")),
}
_HOST: Final = ("a host's id or an address", _name)
_YES_OR_NO: Final = ("true or false", _yes_or_no)
_SESSION: Final = ("a session's document", _document)
ARGUMENTS: Final[Mapping[str, Mapping[str, tuple[str, Check]]]] = {
    "status": {},
    "members": {},
    "metrics": {},
    "down": {},
    "up": {"anyway": _YES_OR_NO, "session": _SESSION},
    "leave": {},
    "rotate": {},
    "confirm": {},
    "relax": {"until": ("a time in seconds since the epoch", _time)},
    "reload": {"anyway": _YES_OR_NO, "session": _SESSION},
    "preview": {"all": _YES_OR_NO},
    "leftovers": {"to": _HOST},
    "verified": {
        "tried": ("a whole number from 0 to 20000", _whole(0, _MOST_IDS)),
        "missed": ("a list of host ids", _ids),
    },
    "explain": {
        "source": _HOST,
        "dest": _HOST,
        "port": _ONE_PORT,
        "udp": _YES_OR_NO,
    },
    "explain_many": {
        "ids": ("a list of host ids", _ids),
        "ports": ("a list of up to 8 ports such as 5432/tcp", _ports),
    },
    "open": {
        "sources": ("a list of addresses, networks or host ids", _ids),
        **_SPAN,
        "seconds": (
            f"a whole number from {SHORTEST} to {LONGEST}",
            _whole(SHORTEST, LONGEST),
        ),
    },
    "close": {"sources": ("a list of addresses, networks or host ids", _ids), **_SPAN},
    "opened": {},
    "release": {"ids": ("a list of host ids", _ids)},
    "enforce": {
        "seconds": ("a whole number from 5 to 86400", _whole(5, 86_400)),
        "wait": _YES_OR_NO,
        "anyway": _YES_OR_NO,
        "session": _SESSION,
    },
}


def checked(command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were said. Raises ValueError in words. Of a command that is not known here,
    nothing is judged: the agent refuses it."""
    known = ARGUMENTS.get(command)
    if known is None:
        return {}
    for name, value in arguments.items():
        if name not in known:
            raise ValueError(
                f"this agent's command {command!r} has no argument {printable(name, _SHOWN)!r}, "
                "so it is of another version: restart it"
            )
        expected, is_that = known[name]
        if value is not None and not is_that(value):
            shown = printable(repr(value), _SHOWN)
            raise ValueError(f"{command}: {name} is {shown}, expected {expected}")
    return {name: value for name, value in arguments.items() if value is not None}


def deadline(said: Any) -> float:
    """CLOCK_MONOTONIC seconds when the caller gives up; infinity when it does not say."""
    if said is None:
        return math.inf
    if isinstance(said, bool) or not isinstance(said, int | float):
        raise ValueError(f"until is {printable(repr(said), _SHOWN)}, expected a number")
    try:
        value = float(said)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError("until is no finite number")
    return value
