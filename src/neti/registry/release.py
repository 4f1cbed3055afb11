"""An operator tells the whole fleet that these hosts are gone for good. Its writer and its reader.

It is the live setting ``release`` in the registry. An agent that reads it removes those of the
named members that are lost at that moment, and never looks at it again: it is not about a host that
comes back and is lost once more. It names the hosts, because an agent that was away cannot tell
which were lost before it and which after. Several are kept side by side, so that an agent that was
away for two of them reads both. Pure.

Must never do: name a host that was registered at that time, or raise anything but
ReleaseUnreadable, whatever the text.
"""

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from neti.errors import RegistryError
from neti.text import printable
from neti.words import counted

FORMAT: Final = 1
# Servers are configured to accept no request of more than 65,536 bytes.
MAX_BYTES: Final = 60_000
MAX_HOSTS: Final = 10_000
MAX_KEPT: Final = 16
# Of each id's digest. An agent looks up only the few members that it has lost, so a chance of one
# in four billion for a false match will do.
_DIGEST_BYTES: Final = 4
_MAX_TEXT: Final = 100


class ReleaseUnreadable(RegistryError):
    """A newer version wrote it, or it is not a release at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """``id``: random; ``at`` (Unix seconds) and ``by``: for people; ``site``: only members of this
    site (None: of any); ``hosts``: see ``digest``."""

    id: str
    at: float
    by: str
    site: str | None
    hosts: frozenset[bytes]

    def about(self, host_id: str, site: str) -> bool:
        return self.site in (None, site) and digest(host_id) in self.hosts


def digest(host_id: str) -> bytes:
    return sha256(host_id.encode()).digest()[:_DIGEST_BYTES]


def said(ids: Iterable[str], *, id: str, site: str | None, by: str, at: float) -> Release:
    """Raises RegistryError for more hosts than fit into one node of the registry."""
    named = set(ids)
    if len(named) > MAX_HOSTS:
        raise RegistryError(
            f"{len(named)} hosts are not registered, and one release names {MAX_HOSTS} at most: "
            "name those that are to go, some at a time"
        )
    return Release(
        id=id, at=at, by=printable(by, _MAX_TEXT), site=site, hosts=frozenset(map(digest, named))
    )


def added(raw: bytes | None, release: Release) -> bytes:
    """The setting with one more (once); the oldest make room. Raises ReleaseUnreadable rather than
    overwrite what a newer version wrote."""
    kept = [*(one for one in decode(raw) if one.id != release.id), release][-MAX_KEPT:]
    while len(document := encode(kept)) > MAX_BYTES and len(kept) > 1:
        kept = kept[1:]
    return document


def encode(releases: Sequence[Release]) -> bytes:
    plain = [
        {
            "id": one.id,
            "at": one.at,
            "by": one.by,
            "site": one.site,
            "hosts": base64.b64encode(b"".join(sorted(one.hosts))).decode(),
        }
        for one in releases
    ]
    return json.dumps({"format": FORMAT, "releases": plain}, separators=(",", ":")).encode()


def decode(raw: bytes | None) -> tuple[Release, ...]:
    """Ignores what it does not know. Raises ReleaseUnreadable."""
    if not raw:
        return ()
    try:
        document = json.loads(raw)
        number = document["format"]
        if type(number) is int and number > FORMAT:
            raise ReleaseUnreadable(
                f"the fleet-wide release has format {number}, and this Neti knows format {FORMAT}: "
                "upgrade this host"
            )
        return tuple(_one(each) for each in document["releases"][-MAX_KEPT:])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ReleaseUnreadable(
            f"the fleet-wide release is not what 'neti release --fleet' writes "
            f"({counted(len(raw), 'byte')}): an operator has to delete it from the registry"
        ) from error


def _one(held: Any) -> Release:
    id_, site = held["id"], held["site"]
    if not isinstance(id_, str) or not isinstance(site, str | None):
        raise TypeError
    digests = base64.b64decode(held["hosts"], validate=True)
    if len(digests) % _DIGEST_BYTES:
        raise ValueError
    return Release(
        id=id_[:_MAX_TEXT],
        at=float(held["at"]),
        by=printable(str(held.get("by", "")), _MAX_TEXT),
        site=site,
        hosts=frozenset(
            digests[at : at + _DIGEST_BYTES] for at in range(0, len(digests), _DIGEST_BYTES)
        ),
    )
