"""Public keys that operators revoked, as every agent reads them. Its writer and its reader. Pure.

It is the live setting ``revoked`` in the registry: a format number, and the first 16 characters of
each key (96 bits, so no other key begins like it). Members cannot write it. So a key stays ended
whatever a member writes into its record or below ``keys``.

Must never do: raise anything but RevokedUnreadable, whatever the text.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from neti.errors import RegistryError

_FORMAT: Final = "1"
CHARS: Final = 16
_ONE: Final = re.compile(r"[A-Za-z0-9_-]{16}", re.ASCII)
# Servers are configured to accept no request of more than 65,536 bytes. Beyond, the oldest make
# room: below ``keys`` they stay revoked.
MAX_KEPT: Final = 3_500


class RevokedUnreadable(RegistryError):
    """A newer version wrote it, or it is no list of keys at all."""


@dataclass(frozen=True, slots=True)
class RevokedKey:
    """``left``: nodes that a member made so that operators can neither change nor delete them.
    ``said``: the key that the host's record says; "" for none, None where that cannot be read."""

    key: str
    left: tuple[str, ...] = ()
    said: str | None = field(kw_only=True)


def decode(raw: bytes | None) -> tuple[str, ...]:
    """How the revoked keys begin, the oldest first. Raises RevokedUnreadable."""
    if not raw:
        return ()
    number, *keys = raw.decode(errors="replace").split() or [""]
    if number != _FORMAT or not all(map(_ONE.fullmatch, keys)):
        raise RevokedUnreadable(
            "the fleet-wide list of revoked keys is not what 'neti key revoke' of this version "
            "writes: upgrade this host, or have an operator delete it from the registry"
        )
    return tuple(keys)


def names(raw: bytes | None, key: str) -> bool:
    return key[:CHARS] in decode(raw)


def joined(former: bytes, raw: bytes) -> bytes:
    """``raw`` with what ``former`` has besides, which was revoked earlier. Raises
    RevokedUnreadable."""
    more = decode(raw)
    before = [one for one in decode(former) if one not in more]
    return _text(*before, *more) if before else raw


def added(raw: bytes | None, key: str) -> bytes:
    """The setting with one more key."""
    kept = [*(one for one in decode(raw) if one != key[:CHARS]), key[:CHARS]]
    return _text(*kept)


def _text(*keys: str) -> bytes:
    return " ".join([_FORMAT, *keys[-MAX_KEPT:]]).encode()
