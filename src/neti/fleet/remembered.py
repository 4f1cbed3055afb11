"""A member as a restart should find it again. Pure; the files are in ``neti.state``."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from neti.fleet.lost import Hold
from neti.model import IPAddress
from neti.model.wireguard_key import PublicKey


@dataclass(frozen=True, slots=True)
class Remembered:
    """One accepted member as the last good state keeps it. ``lost_since``: Unix seconds."""

    name: str
    more: tuple[IPAddress, ...] = ()
    lost_since: float | None = None
    leased: bool = False  # the lease was read and is this host's
    hold: Hold | None = None
    passing: bool = False  # an operator has let it go, and its time is still running
    key: PublicKey | None = None  # as its record said it


class Everybody:
    """All members as they are now, for a rewrite: iterates (id, Remembered) lazily."""

    def __init__(self, count: int, members: Iterable[tuple[str, Remembered]]) -> None:
        self._count = count
        self._members = members

    def count(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[str, Remembered]]:
        return iter(self._members)
