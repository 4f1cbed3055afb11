"""Gateways that operators are taking out of use, as every agent reads them. Its writer and its
reader. Pure.

It is the live setting ``drained`` in the registry: a format number, and the gateways' ids. Members
cannot write it.

Must never do: raise anything but DrainedUnreadable, whatever the text.
"""

import contextlib
from collections.abc import Iterable
from typing import Final

from neti.errors import RegistryError
from neti.model.entry import HOST_ID

_FORMAT: Final = "1"


class DrainedUnreadable(RegistryError):
    """A newer version wrote it, or it is no list of hosts at all."""


def decode(raw: bytes | None) -> frozenset[str]:
    """Ids. Raises DrainedUnreadable."""
    if not raw:
        return frozenset()
    number, *ids = raw.decode(errors="replace").split() or [""]
    if number != _FORMAT or not all(map(HOST_ID.fullmatch, ids)):
        raise DrainedUnreadable(
            "the fleet-wide list of drained gateways is not what 'neti gateway drain' of this "
            "version writes: upgrade this host, or have an operator delete it from the registry"
        )
    return frozenset(ids)


def as_read(raw: bytes | None) -> frozenset[str]:
    """For who only looks: nobody where it cannot be read, as for an agent that starts, which names
    that."""
    with contextlib.suppress(DrainedUnreadable):
        return decode(raw)
    return frozenset()


def encode(ids: Iterable[str]) -> bytes | None:
    """None for nobody: the setting is then deleted."""
    every = sorted(set(ids))
    return " ".join([_FORMAT, *every]).encode() if every else None
