"""Counts, spans and sockets, as all parts of ``neti preview`` say them."""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from neti.monitoring.preview import Socket

_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def sockets(listeners: Iterable[Socket]) -> list[str]:
    return list(dict.fromkeys(_socket(one) for one in listeners))


def _socket(one: Socket) -> str:
    bound = "" if ip_address(one.address).is_unspecified else f" on {one.address} only"
    if one.pid is None:
        return f"a process that only root can see{bound}"
    unit = f", {one.unit}" if one.unit else ""
    return f"{one.process or '?'} (pid {one.pid}{unit}){bound}"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def span(seconds: float) -> str:
    for unit, name in _UNITS:
        if seconds >= 2 * unit or unit == 1:
            return f"{max(0.0, seconds) // unit:.0f} {name}"
    raise AssertionError("the last unit always fits")
