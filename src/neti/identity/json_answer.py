"""Fields of a metadata service's JSON, each with a check. Pure.

Must never do: raise anything but IdentityError, whatever the answer is.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from neti.errors import IdentityError
from neti.text import printable

_MOST_DIGITS = 20  # of a number with 64 bits


@dataclass(frozen=True, slots=True)
class Fields:
    """``where``: what the answer came from, and the way to this part of it, for people."""

    where: str
    held: dict[str, Any]

    def wrong(self, key: str, found: object, expected: str) -> IdentityError:
        return IdentityError(
            f"{self.where} says that {key} is {str(found)[:60]!r}, which is not {expected}"
        )

    def text(self, key: str, missing: str | None = None) -> str:
        """``missing``: what to return where there is no such field; None: that is an error."""
        found = self.held.get(key, missing)
        if not isinstance(found, str) or printable(found) != found:
            raise self.wrong(key, found, "a line of text")
        return found

    def whole(self, key: str) -> int:
        found = self.held.get(key)
        if isinstance(found, str) and found.isascii() and found.isdigit():
            found = int(found[: _MOST_DIGITS + 1])
        if (
            not isinstance(found, int)
            or isinstance(found, bool)
            or not 0 < found < 10**_MOST_DIGITS
        ):
            raise self.wrong(key, found, "a whole number")
        return found

    def ipv4(self, key: str) -> IPv4Address:
        try:
            return IPv4Address(self.text(key))
        except ValueError:
            raise self.wrong(key, self.held.get(key), "an IPv4 address") from None

    def ipv6s(self, key: str) -> Iterator[IPv6Address]:
        found = self.held.get(key, [])
        if not isinstance(found, list):
            raise self.wrong(key, found, "a list of addresses")
        for one in found:
            try:
                yield IPv6Address(str(one))
            except ValueError:
                raise self.wrong(key, one, "an IPv6 address") from None

    def inside(self, key: str, *, needed: bool = True) -> "Fields":
        found = self.held.get(key) if needed else self.held.get(key, {})
        if not isinstance(found, dict):
            raise self.wrong(key, found, "a mapping")
        return Fields(f"{self.where}, {key},", found)

    def every(self, key: str) -> list["Fields"]:
        """Of a list of mappings, which may be empty or not be there."""
        found = self.held.get(key, [])
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise self.wrong(key, found, "a list of mappings")
        return [Fields(f"{self.where}, {key}[{n}],", one) for n, one in enumerate(found)]

    def first(self, key: str) -> "Fields":
        every = self.every(key)
        if not every:
            raise self.wrong(key, "[]", "a list with at least one")
        return every[0]


def document(where: str, body: bytes) -> Fields:
    try:
        held = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise IdentityError(f"{where} did not answer with JSON") from error
    if not isinstance(held, dict):
        raise IdentityError(f"{where} answered with JSON that is not a mapping")
    return Fields(where, held)
