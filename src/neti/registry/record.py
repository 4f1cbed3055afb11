"""A host's own record in the registry: which entry or goodbye is its word. Writer, reader. Pure.

    1 192.168.0.7 1.0a00….3fk.vpc.i-0abc 5f0c2a9e key=mB7k…
    format, overlay address, word, machine; "-" for none; then name=value

Where the registry has rights, only the host itself can write its record, so the word in it is the
host's own. See docs/design/host-records.md.

Must never do: raise because of what another host wrote.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address
from socket import AF_INET, inet_pton
from typing import Final, Literal

from neti.model.entry import MAX_NAME_BYTES

_FORMAT: Final = "1"
_NONE: Final = "-"
_MACHINE: Final = re.compile(r"[0-9a-f]{1,32}", re.ASCII)
# 32 bytes in base64url (RFC 4648, 5) without padding: the name of a node too. Of the last character
# two bits are not used, and have to be 0, so that one key has one text.
PUBLIC_KEY: Final = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]", re.ASCII)
_KEY: Final = "key="
# Who holds a key that nobody may have any more: no host id is spelled like this.
REVOKED: Final = "!revoked"
MAX_RECORD_BYTES: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRecord:
    """``overlay``: the host's address; ``word``: the name of its entry or goodbye; ``machine``: a
    digest of the machine and its boot; ``key``: its public key, as PUBLIC_KEY. What it does not say
    is empty."""

    overlay: IPv4Address | None = None
    word: str = ""
    machine: str = ""
    key: str = ""


def encode(record: HostRecord) -> bytes:
    fields = (str(record.overlay or ""), record.word, record.machine)
    more = [_KEY + record.key] if record.key else []
    return " ".join([_FORMAT, *(field or _NONE for field in fields), *more]).encode()


def decode(data: bytes) -> HostRecord | None:
    """None if it is not a record in a format that this version knows."""
    try:
        fields = data[:MAX_RECORD_BYTES].decode("ascii").split(" ")
    except UnicodeDecodeError:
        return None
    if len(fields) < 4 or fields[0] != _FORMAT:
        return None
    overlay, word, machine = [field if field != _NONE else "" for field in fields[1:4]]
    if len(word) > MAX_NAME_BYTES or (machine and not _MACHINE.fullmatch(machine)):
        return None
    more = fields[4:]
    keys = [field.removeprefix(_KEY) for field in more if field.startswith(_KEY)] if more else []
    key = keys[0] if keys and PUBLIC_KEY.fullmatch(keys[0]) else ""
    try:
        return HostRecord(overlay=_address(overlay), word=word, machine=machine, key=key)
    except (OSError, ValueError):
        return None


def _address(text: str) -> IPv4Address | None:
    """As ``IPv4Address`` reads it, in a third of the time. Raises OSError or ValueError."""
    return IPv4Address(inet_pton(AF_INET, text)) if text else None


@dataclass(frozen=True, slots=True)
class HostId:
    """A question about this host's record, as opposed to one about a lease or an entry."""

    id: str


@dataclass(frozen=True, slots=True)
class KeyName:
    """A question about whose this public key is, among those."""

    key: str


# What a registration does about the host's record.
Takeover = Literal["free", "ours", "same machine", "held"]


def may_take(
    record: HostRecord | None, *, alive: bool, own_session: bool, machine: str
) -> Takeover:
    """Whether a registration may overwrite this record with its own word. ``alive``: the registry
    holds the word in it, made in the step that wrote the record; ``own_session``: by the session
    that asks."""
    if record is None or not alive or record.word.startswith("left."):
        return "free"
    if own_session:
        return "ours"
    return "same machine" if machine and record.machine == machine else "held"
