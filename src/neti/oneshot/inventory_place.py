"""A place in an inventory's document, and what a machine of it is made of."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, ip_address
from typing import Any

from neti.identity.azure import short_id
from neti.model.entry import HOST_ID


class Odd(Exception):
    """What in a document is not as its kind has it."""


class Place:
    """A mapping in a document. ``name``: which one it is, for people."""

    def __init__(self, name: str, held: Any) -> None:
        if not isinstance(held, dict):
            raise Odd(f"{name} is no mapping")
        self.name = name
        self.held: Mapping[str, Any] = held

    def text(self, key: str, missing: str = "") -> str:
        found = self.held.get(key)
        if found is None:
            return missing
        if not isinstance(found, str):
            raise Odd(f"{self.name}: {key} is {str(found)[:60]!r}, which is no text")
        return found

    def several(self, key: str) -> list[str]:
        found = self.held.get(key) or []
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise Odd(f"{self.name}: {key} is no list of texts")
        return found

    def mappings(self, key: str) -> "list[Place]":
        found = self.held.get(key) or []
        if not isinstance(found, list):
            raise Odd(f"{self.name}: {key} is no list")
        return [Place(f"{self.name}, {key}[{n}]", one) for n, one in enumerate(found)]

    def texts(self, key: str) -> dict[str, str]:
        found = self.held.get(key) or {}
        if not isinstance(found, dict):
            raise Odd(f"{self.name}: {key} is no mapping")
        return {str(name): str(value) for name, value in found.items()}


def ids_of(*wanted: str) -> tuple[str, ...]:
    """Those of them that an agent may be registered under; the first one, if none is."""
    fit = tuple(dict.fromkeys(one for one in wanted if HOST_ID.fullmatch(one)))
    return fit or (next((one for one in wanted if one), "?"),)


def addresses(where: Place, texts: Iterable[str]) -> tuple[IPv4Address, ...]:
    found: list[IPv4Address] = []
    for text in texts:
        bare = text.strip()
        if not bare:
            continue
        try:
            address = ip_address(bare)
        except ValueError:
            raise Odd(f"{where.name}: {bare[:60]!r} is no address") from None
        if isinstance(address, IPv4Address):
            found.append(address)
    return tuple(dict.fromkeys(found))


def azure_id(where: Place, key: str) -> str:
    said = where.text(key)
    try:
        return short_id(said) if said else ""
    except ValueError:
        raise Odd(f"{where.name}: {key} is {said[:60]!r}, which is no UUID") from None


def azure_networks(resource: str, group: str) -> tuple[str, tuple[str, ...]]:
    """The subscription, and the names of a machine's network that its agent knows too: by its
    resource's id and its resource group."""
    subscription, group = _after(resource, "subscriptions").lower(), group.lower()
    names = (subscription, f"{subscription}/{group}", group) if subscription else (group,)
    return subscription, tuple(name for name in names if name)


def _after(path: str, word: str) -> str:
    """The part of an id behind this one: /subscriptions/THIS/resourceGroups/…"""
    parts = path.split("/")
    return parts[parts.index(word) + 1] if word in parts[:-1] else ""
