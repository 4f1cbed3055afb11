"""Names of hosts, as operators give them and every agent reads them. Writer, reader. Pure.

It is the live setting ``names`` in the registry, which members cannot write. JSON:

    {"format":1,"edition":7,"suffix":"neti.internal","names":{"db":"i-0abc"}}

A name stands for the lease of an id: whoever moves or releases the lease moves or takes away the
name in the same step. Keys that are not known are passed over.

Must never do: raise anything but NamesUnreadable, whatever the text.
"""

import contextlib
import json
from typing import Any, Final

from neti.errors import NetiError, RegistryError
from neti.model.entry import HOST_ID
from neti.model.names import MAX_SUFFIX, Names, is_host_name
from neti.registry.wrong import Wrong, of_format, said

# Servers are configured to accept no request of more than 65,536 bytes.
MAX_BYTES: Final = 60_000
# What goes with a lease is one request with the lease, whose rights name each operator.
MAX_WRITTEN: Final = 48_000
_FORMAT: Final = 1
_MAX_EDITION: Final = 1 << 53


class NamesUnreadable(RegistryError):
    """A newer version wrote it, or it is no document of names."""


class NamesTooLong(NetiError):
    """The registry would not hold it."""


def decode(raw: bytes | None) -> Names:
    """Of no document: no names, and edition 0. Raises NamesUnreadable."""
    if raw is None:
        return Names()
    try:
        if len(raw) > MAX_BYTES:
            raise Wrong(f"is longer than {MAX_BYTES:,} bytes")
        try:
            held = json.loads(raw.decode())
        except (ValueError, RecursionError) as error:
            raise Wrong("is not JSON") from error
        return _names(held)
    except Wrong as wrong:
        raise NamesUnreadable(
            f"the fleet-wide document of names {wrong}: 'neti name' of this version did not write "
            "it\n→ upgrade this host, if a newer version wrote it. Otherwise 'neti registry remove "
            "PREFIX/names', and then suffix and every name again by 'neti name': hosts keep the "
            "names that they have until the first of these, and then have no others"
        ) from wrong


def encode(names: Names, before: bytes | None = None) -> bytes:
    """``before``: what it takes the place of, which may be as long as it was. Raises
    NamesTooLong."""
    document = {
        "format": _FORMAT,
        "edition": names.edition,
        "suffix": names.suffix,
        "names": dict(sorted(names.ids.items())),
    }
    raw = json.dumps(document, separators=(",", ":")).encode()
    if len(raw) > max(MAX_WRITTEN, len(before or b"")):
        raise NamesTooLong(
            f"all names together would be {len(raw):,} bytes, and {MAX_WRITTEN:,} is the most: "
            "nothing was changed\n→ neti name --list"
        )
    return raw


def follow_lease(raw: bytes | None, old: str, new: str | None, now: float) -> bytes | None:
    """The document once the lease of ``old`` is that of ``new`` (None: nobody's): its names go with
    it. None: the document stays as it is, as one does that cannot be read or would be too long:
    names keep no lease from anybody. ``now``: Unix seconds, see ``Names.later``."""
    try:
        names = decode(raw)
    except NamesUnreadable:
        return None
    if not names.of(old):
        return None
    held = {name: new if i == old else i for name, i in names.ids.items()}
    after = names.later(ids={name: i for name, i in held.items() if i is not None}, now=now)
    with contextlib.suppress(NamesTooLong):
        return encode(after)
    return None


def _names(held: Any) -> Names:
    held = of_format(held, _FORMAT)
    suffix, listed, edition = held.get("suffix", ""), held.get("names", {}), held.get("edition", 0)
    if not isinstance(suffix, str) or (
        suffix and (len(suffix) > MAX_SUFFIX or not is_host_name(suffix))
    ):
        raise Wrong(f"has suffix {said(suffix)}, which is no name of a domain")
    if not isinstance(listed, dict):
        raise Wrong("has no names")
    for name, host_id in listed.items():
        if not is_host_name(name):
            raise Wrong(f"has a name {said(name)}, which no host may have")
        if not isinstance(host_id, str) or not HOST_ID.fullmatch(host_id):
            raise Wrong(f"has {said(host_id)} for the name {said(name)}, which is no host id")
    if not isinstance(edition, int) or isinstance(edition, bool) or not 0 <= edition < _MAX_EDITION:
        raise Wrong(f"has edition {said(edition)}, which is no number of an edition")
    return Names(suffix, listed, edition)
