"""Pure functions whose results are kept while a seed is played, because the same few arguments come
again and again: the text of addresses, names of entries, the rules of a host.

Must never do: keep anything whose result depends on more than its arguments.
"""

from functools import lru_cache
from ipaddress import IPv4Address
from typing import Any, Final

from neti.model import entry
from neti.model.settings import Settings
from neti.ruleset.objects import Structure
from neti.ruleset.plan import digest
from neti.ruleset.policy import structure
from neti.ruleset.surroundings import Surroundings

_MANY: Final = 8192
_TEXT_OF_ADDRESSES: Final = ("_ip_int_from_string", "_string_from_ip_int")


class Rules:
    """Of one seed's hosts. By identity: settings and structures are never changed."""

    def __init__(self) -> None:
        self._structures: dict[tuple[int, Surroundings], tuple[Settings, Structure]] = {}
        self._digests: dict[int, tuple[Structure, str]] = {}

    def structure(self, settings: Settings, surroundings: Surroundings) -> Structure:
        key = (id(settings), surroundings)
        held = self._structures.get(key)
        if held is None:
            held = self._structures[key] = (settings, structure(settings, surroundings))
        return held[1]

    def digest(self, of: Structure) -> str:
        held = self._digests.get(id(of))
        if held is None:
            held = self._digests[id(of)] = (of, digest(of))
        return held[1]


def stands_in() -> list[tuple[Any, dict[str, Any]]]:
    """What takes the place of these functions, by the module or class."""
    texts = {
        name: staticmethod(lru_cache(_MANY)(getattr(IPv4Address, name)))
        for name in _TEXT_OF_ADDRESSES
    }
    return [(IPv4Address, texts), (entry, {"parse": lru_cache(_MANY)(entry.parse)})]
