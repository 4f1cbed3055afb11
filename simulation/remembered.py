"""Pure functions whose results are kept while a seed is played, because the same few arguments come
again and again: the text of addresses, names of entries, the rules of a host.

Must never do: keep anything whose result depends on more than its arguments.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from neti import durable
from neti.fleet.admission import Admission
from neti.fleet.remembered import Remembered
from neti.model import Host, Member, Road, entry
from neti.model.settings import Settings
from neti.ruleset import desired
from neti.ruleset.objects import Chain, Structure
from neti.ruleset.plan import digest
from neti.ruleset.policy import structure
from neti.ruleset.reach import Element, elements_of
from neti.ruleset.surroundings import Surroundings
from neti.state import records

_MANY: Final = 8192
_TEXT_OF_ADDRESSES: Final = ("_ip_int_from_string", "_string_from_ip_int")


# What the version to come has more than this one.
_NEWER: Final = Chain("newer", None, ('ip saddr @newer counter name "newer" return',))
_NEWER_SETS: Final = (("set newer", "type ipv4_addr"), ("counter newer", "packets 0 bytes 0"))


class Rules:
    """Of one seed's hosts. By identity: settings and structures are never changed. ``newer``:
    whether the version to come is installed on the host whose code runs."""

    def __init__(self, newer: Callable[[], bool]) -> None:
        self._newer = newer
        self._structures: dict[tuple[int, Surroundings, bool], tuple[Settings, Structure]] = {}
        self._digests: dict[int, tuple[Structure, str]] = {}

    def structure(self, settings: Settings, surroundings: Surroundings) -> Structure:
        newer = self._newer()
        key = (id(settings), surroundings, newer)
        held = self._structures.get(key)
        if held is None:
            made = structure(settings, surroundings)
            if newer:
                made = Structure((*_NEWER_SETS, *made.sets), (_NEWER, *made.chains))
            held = self._structures[key] = (settings, made)
        return held[1]

    def digest(self, of: Structure) -> str:
        held = self._digests.get(id(of))
        if held is None:
            held = self._digests[id(of)] = (of, digest(of))
        return held[1]


class Judgements:
    """What members mean to the hosts of one seed, and whether they may be believed. By identity:
    members, hosts and settings are never changed."""

    def __init__(self) -> None:
        self._elements: dict[tuple[int, int, int, Road], tuple[Any, tuple[Element, ...]]] = {}
        self._objections: dict[tuple[int, str | None, int], tuple[Any, str | None]] = {}
        self._objection = Admission.objection

    def elements_of(
        self, member: Member, *, host: Host, sites: Any, road: Road = Road.PLAIN
    ) -> tuple[Element, ...]:
        key = (id(member), id(host), id(sites), road)
        held = self._elements.get(key)
        if held is None:
            told = tuple(elements_of(member, host=host, sites=sites, road=road))
            held = self._elements[key] = ((member, host, sites), told)
        return held[1]

    def stands_in(self) -> list[tuple[Any, dict[str, Any]]]:
        def objection(admission: Admission, member: Member) -> str | None:
            key = (id(member), admission.own_site, id(admission.sites))
            held = self._objections.get(key)
            if held is None:
                said = self._objection(admission, member)
                held = self._objections[key] = ((member, admission.sites), said)
            return held[1]

        return [(desired, {"elements_of": self.elements_of}), (Admission, {"objection": objection})]


def stands_in() -> list[tuple[Any, dict[str, Any]]]:
    """What takes the place of these functions, by the module or class."""
    read = lru_cache(_MANY)(durable.checked)
    return [
        *((family, _texts(family)) for family in (IPv4Address, IPv6Address)),
        (entry, {"parse": lru_cache(_MANY)(entry.parse)}),
        # Who reads a document takes keys out of it, and leaves what they hold alone.
        (durable, {"checked": lambda written: dict(read(written))}),
        (records, {"base_lines": _base_lines}),
        *Judgements().stands_in(),
    ]


def _texts(family: type) -> dict[str, Any]:
    return {
        name: staticmethod(lru_cache(_MANY)(getattr(family, name))) for name in _TEXT_OF_ADDRESSES
    }


@lru_cache(_MANY)
def _line(host_id: str, held: Remembered) -> bytes:
    return records.changes_line({host_id: held})


def _base_lines(members: Iterable[tuple[str, Remembered]], machine: str) -> list[bytes]:
    lines = [_line(host_id, held) for host_id, held in members]
    return [records.header_line(records.Header(machine, len(lines))), *lines]
