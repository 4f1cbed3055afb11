"""What other hosts wrote, in a form that is safe to carry, compare and print. Pure.

Must never do: raise, whatever the text, or let a long one through.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from neti.errors import IdentityHeld, KeyRevoked, KeyTaken, NameTaken, RegistryError
from neti.model.entry import MAX_DATA_BYTES, MAX_NAME_BYTES
from neti.registry import SettingName, detail
from neti.registry.record import REVOKED
from neti.text import printable

MAX_HOST_ID_CHARS: Final = 64
_MAX_SETTING_BYTES: Final[Mapping[SettingName, int]] = {
    "release": 65_536,
    "revoked": 65_536,
    "drained": 65_536,
    "groups": 65_536,
    "names": 65_536,
    "retired": 65_536,
}
_MAX_NUMBER_BYTES: Final = 64


def bounded_name(name: str) -> str:
    """``name``, or a short stand-in if it is too long for an entry.

    Different names have different stand-ins, so that each is seen to vanish by itself. A stand-in
    is never an entry, because it has an ellipsis.
    """
    if len(name) <= MAX_NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    return f"{name[:40]}…{digest[:12]}"


def bounded_data(data: bytes) -> bytes:
    """An entry's data, cut so that one can still see that they were too long."""
    return data[: MAX_DATA_BYTES + 1]


def bounded_setting(setting: SettingName, value: bytes) -> bytes:
    """A live setting, cut just beyond its limit."""
    return value[: _MAX_SETTING_BYTES.get(setting, _MAX_NUMBER_BYTES)]


def host_id_text(data: bytes) -> str:
    """The host id that a lease names: short and printable, but perhaps not a valid id."""
    text = data[: 4 * MAX_HOST_ID_CHARS].decode(errors="replace")[:MAX_HOST_ID_CHARS]
    return printable(text, MAX_HOST_ID_CHARS)


def identity_held(host_id: str, session_id: int, raw: bytes) -> IdentityHeld:
    """The error for a second agent with the same identity: it names the first."""
    if not session_id:
        return IdentityHeld(
            f"host id {host_id} is taken by a node that no session holds, made by hand or by a "
            "mistake: it never ends by itself. An operator has to delete it: "
            "'neti registry check' names it"
        )
    return IdentityHeld(
        f"host id {host_id} is registered by {_holder(session_id, raw)}: "
        "two hosts must not share one identity. If that is this host before a restart, "
        "it ends with its session by itself; if this is a clone, give it an id of its own"
    )


def name_taken(name: str) -> NameTaken:
    return NameTaken(
        f"there is an entry {printable(name, MAX_NAME_BYTES)} already, by somebody else or by an "
        "earlier run of this host: it takes another name"
    )


def key_taken(key: str, holder: bytes) -> KeyTaken:
    if holder == REVOKED.encode():
        return KeyRevoked(
            f"the public key {key} was revoked by an operator, so this host needs another"
        )
    return KeyTaken(
        f"the public key {key} belongs to {host_id_text(holder)} in this registry: no two hosts "
        "may have one key, so this host needs another"
    )


def key_not_its(host_id: str, key: str, holder: str) -> RegistryError:
    return RegistryError(
        f"the public key {key} is that of {printable(holder)}, whose record says it, and not of "
        f"{printable(host_id)}: nothing was changed\n→ neti registry check"
    )


def _holder(session_id: int, raw: bytes) -> str:
    session = f"session 0x{session_id & 0xFFFFFFFFFFFFFFFF:x}"
    document = detail.decode(raw)
    words = []
    if document.name:
        words.append(f"host {document.name}")
    if document.pid is not None:
        words.append(f"pid {document.pid}")
    return f"{', '.join(words)} ({session})" if words else session
