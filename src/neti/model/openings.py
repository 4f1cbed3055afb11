"""Ports of this host that an operator opened to somebody for a time. Pure.

Must never hold an opening that has no end, or one that ends later than was said.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

from neti.model.settings import IPNetwork

SHORTEST: Final = 60  # seconds
LONGEST: Final = 7 * 86_400
# Of a source and a port: so many at once on one host. The kernel holds an element for each.
MOST: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Ports ``first`` to ``last`` (1-65535, inclusive) of this host, open to ``source``.

    ``until``: steady seconds (``neti.clock.SteadyClock``); ``seconds``: for how long it was said.
    ``at`` (Unix seconds) and ``by``: when it was said, and by whom, for people. ``member``: the
    member by whose id ``source`` was found; empty: it was said as an address.
    """

    source: IPNetwork
    proto: Literal["tcp", "udp"]
    first: int
    last: int
    until: float
    seconds: int
    at: float = 0.0
    by: str = ""
    member: str = ""

    @property
    def port(self) -> str:
        """As operators write it: ``5432/tcp``, ``8000-8100/tcp``."""
        span = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{span}/{self.proto}"

    @property
    def place(self) -> tuple[IPNetwork, str, int, int]:
        """What is open to whom. Of two openings with the same, the later one counts."""
        return self.source, self.proto, self.first, self.last

    @property
    def to(self) -> str:
        """To whom, as people read it. One address is not written as a network."""
        one = self.source.prefixlen == self.source.max_prefixlen
        shown = str(self.source.network_address if one else self.source)
        return f"{self.member} ({shown})" if self.member else shown

    def lets_in(self, proto: str, port: int) -> bool:
        return proto == self.proto and self.first <= port <= self.last

    def overlaps(self, other: "Opening") -> bool:
        """Whether one packet may be let in by both."""
        if self.proto != other.proto or self.first > other.last or other.first > self.last:
            return False
        wide, narrow = sorted((self.source, other.source), key=lambda one: one.prefixlen)
        return wide.version == narrow.version and narrow.network_address in wide


@dataclass(frozen=True, slots=True)
class Openings:
    """All of a host, as of ``as_of`` (steady seconds): when they were written to disk last."""

    as_of: float = 0.0
    held: tuple[Opening, ...] = ()

    def with_new(self, new: Iterable[Opening]) -> "Openings":
        """Each takes the place of one of the same ports to the same source, even if that would have
        lasted longer: the later word counts."""
        by_place = {one.place: one for one in self.held}
        by_place |= {one.place: one for one in new}
        return replace(self, held=tuple(by_place.values()))

    def without(self, gone: Iterable[Opening]) -> "Openings":
        places = {one.place for one in gone}
        return replace(self, held=tuple(one for one in self.held if one.place not in places))

    def over(self, now: float) -> tuple[Opening, ...]:
        """Those that have ended. ``now``: steady seconds."""
        return tuple(one for one in self.held if one.until <= now)

    def moved(self, by: float, now: float) -> "Openings":
        """As a later run counts time: ``by`` later. None ends later than was said, counted from
        ``now``."""
        held = (replace(one, until=min(one.until + by, now + one.seconds)) for one in self.held)
        return Openings(self.as_of + by, tuple(held))

    @property
    def size(self) -> int:
        """Pairs of a source and a port."""
        return sum(one.last - one.first + 1 for one in self.held)

    def to(self, source: object) -> Iterator[Opening]:
        """Those that let this address in."""
        for one in self.held:
            if getattr(source, "version", None) == one.source.version and source in one.source:
                yield one
