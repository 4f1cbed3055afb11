"""What of a host's document says where a trial would hurt. Its writer and its reader. Pure.

Must never do: raise because of what another host wrote, or say of a part of the networks that they
are all, because none means everybody.
"""

import re
from dataclasses import astuple, dataclass
from typing import Any, Final

from neti.model.addresses import is_network

MAX_HURTS: Final = 12
MAX_NETWORKS: Final = 4  # of each
_PORT: Final = re.compile(r"(?:0|[1-9][0-9]{0,4})/[a-z]{1,8}")  # one spelling for each
_MOST_CIDR: Final = 43  # 39 characters of IPv6, and the length
_MANY: Final = 1 << 32
_LAST_TIME: Final = 253_402_300_799  # the last second that people can be shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Hurt:
    """A port that a trial would shut, and that is in use. ``port``: as "5432/tcp"; ``sources``: how
    many; ``networks``: who would have to be let in, as CIDRs; none: everybody; None: that is not
    for open_ports to do."""

    port: str
    sources: int
    networks: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hurts:
    """What a trial would shut that is in use, as ``neti preview`` has it: on how many ports, from
    how many sources. ``at``: the ``MAX_HURTS`` of these ports that matter most, or as many as have
    room. ``since``: since when who comes is remembered, in Unix seconds; None: a version before
    said it."""

    ports: int
    sources: int
    at: tuple[Hurt, ...] = ()
    since: int | None = None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        at = [astuple(one) for one in self.at]
        made: dict[str, Any] = {"ports": self.ports, "sources": self.sources}
        if self.since is not None:
            made["since"] = self.since
        return {**made, "at": at} if at else made


def read_hurts(value: object) -> Hurts | None:
    """As ``plain`` wrote it; None: it cannot be understood. A port counts once."""
    if not isinstance(value, dict):
        return None
    ports, sources = (_count(value.get(key), 0) for key in ("ports", "sources"))
    if ports is None or sources is None:
        return None
    named = value.get("at")
    at: dict[str, Hurt] = {}
    for one in map(_hurt, named[:MAX_HURTS] if isinstance(named, list) else ()):
        if one is not None:
            at.setdefault(one.port, one)
    since = time_of(value.get("since"))
    return Hurts(ports=ports, sources=sources, at=tuple(at.values()), since=since)


def port_of(value: object) -> str:
    """As "5432/tcp"; empty: it is none."""
    if not isinstance(value, str) or _PORT.fullmatch(value) is None:
        return ""
    return value if int(value.partition("/")[0]) <= 65_535 else ""


def time_of(value: object) -> int | None:
    """A time in whole Unix seconds, up to the year 9999; None: it is none."""
    return value if type(value) is int and 0 <= value <= _LAST_TIME else None


def _hurt(value: object) -> Hurt | None:
    if not isinstance(value, list) or len(value) != len(Hurt.__slots__):
        return None
    port, sources, networks = port_of(value[0]), _count(value[1], 1), value[2]
    if not port or sources is None or not (networks is None or _are_networks(networks)):
        return None
    named = None if networks is None else tuple(networks)
    return Hurt(port=port, sources=sources, networks=named)


def _are_networks(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_NETWORKS
        and all(
            isinstance(one, str) and len(one) <= _MOST_CIDR and is_network(one) for one in value
        )
    )


def _count(value: object, least: int) -> int | None:
    return value if type(value) is int and least <= value <= _MANY else None
