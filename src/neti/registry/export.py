"""What is worth keeping of a registry: who owns which id, address and public key, and operators'
settings.

A JSON document; its writer and its reader. It has no registrations: agents make those. Pure.

Must never do: raise anything but ExportUnreadable, or let a value pass that the registry would not
hold.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Final

from neti.errors import NetiError
from neti.model import document
from neti.model.document import DocumentError
from neti.registry import SettingName, groups, names, revoked, strict
from neti.registry.admitted import checked_id, checked_subject
from neti.registry.record import PUBLIC_KEY
from neti.text import json_document, printable

FORMAT: Final = 1
KIND: Final = "neti registry export"
MAX_BYTES: Final = 64 * 1024 * 1024
# Not ``release``, ``drained``, ``asked`` and ``retired``: they are about what was so on one day.
SETTINGS: Final[tuple[SettingName, ...]] = (
    "interval",
    "maxchange",
    "strict",
    "revoked",
    "groups",
    "names",
)
# Each raises a NetiError for what it cannot read.
_DOCUMENTS: Final[Mapping[SettingName, Callable[[bytes], object]]] = {
    "revoked": revoked.decode,
    "groups": groups.decode,
    "names": names.decode,
}
_MAX_VALUE: Final = 64
_LISTS: Final = ("hosts", "leases", "keys")
_STEP: Final = re.compile(r"(\w+)|\[(\d+)\]", re.ASCII)


class ExportUnreadable(NetiError):
    """It is not an export, has another format, or has an impossible value."""


@dataclass(frozen=True, slots=True)
class Pin:
    """``subject``: the certificate that the id belongs to; None in a tree without rights. ``came``:
    its host has been here; if not, it was admitted and nobody misses it."""

    id: str
    subject: str | None = None
    came: bool = True


@dataclass(frozen=True, slots=True)
class Leased:
    overlay: IPv4Address
    id: str
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class HeldKey:
    """``id``: the host that published this public key first; None: operators revoked it."""

    key: str
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """``leases``: the oldest first; ``admission``: whether only operators may begin a host (None:
    a tree without rights, where anybody may); ``root_closed``: members may do nothing beside the
    tree, as after 'neti registry init --close-root'; ``at`` and ``fleet``: when it was made and of
    which tree, for people."""

    leases: tuple[Leased, ...]
    hosts: tuple[Pin, ...]
    keys: tuple[HeldKey, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    admission: bool | None = None
    root_closed: bool = False
    operators: tuple[str, ...] = ()
    at: str = ""
    fleet: str = ""


def encode(export: Export) -> bytes:
    """Each lease and each host on a line of its own, so that exports can be compared with diff."""
    held = document.plain(export)
    lines = [
        f' "{key}": {json_document(value)}'
        for key, value in {"kind": KIND, "format": FORMAT, **held}.items()
        if key not in _LISTS
    ]
    for key in _LISTS:
        ones = ",\n".join(f"  {json_document(one)}" for one in held[key])
        lines.append(f' "{key}": [\n{ones}\n ]')
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def decode(raw: bytes, source: str) -> Export:
    """Raises ExportUnreadable, which names the source, key and value."""
    try:
        held = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ExportUnreadable(f"{source} is not JSON ({printable(error)})") from error
    if not isinstance(held, dict) or held.get("kind") != KIND:
        raise ExportUnreadable(
            f"{source}: was not written by 'neti registry export': expected kind {KIND!r}"
        )
    if held.get("format") != FORMAT:
        raise ExportUnreadable(
            f"{source}: format is {printable(held.get('format'))}, and this version reads "
            f"{FORMAT}: import it with the version that wrote it"
        )
    try:
        export = document.read(Export, held)
    except DocumentError as error:
        said = str(error).removeprefix("Export: ").removeprefix("Export.")
        found = _found(held, said.partition(":")[0])
        raise ExportUnreadable(f"{source}: {printable(said)}{found}") from error
    try:
        _check(export, held)
    except NetiError as error:
        raise ExportUnreadable(f"{source}: {error}") from error
    return export


def _found(held: Any, place: str) -> str:
    """The value at a place such as leases[3].overlay."""
    for key, number in _STEP.findall(place):
        try:
            held = held[key] if key else held[int(number)]
        except (LookupError, TypeError):
            return ""
    return f" ({printable(held, _MAX_VALUE)})" if isinstance(held, str | int | float) else ""


def _check(export: Export, held: Mapping[str, Any]) -> None:
    for number, pin in enumerate(export.hosts):
        _owned(pin.id, pin.subject, f"hosts[{number}].")
    for number, lease in enumerate(export.leases):
        _owned(lease.id, lease.subject, f"leases[{number}].")
    for number, one in enumerate(export.keys):
        if not PUBLIC_KEY.fullmatch(one.key):
            raise NetiError(f"keys[{number}].key: {printable(one.key, _MAX_VALUE)!r} is no key")
        if one.id is not None:
            checked_id(one.id, f"keys[{number}].id: ")
    _once("keys", "key", (one.key for one in export.keys))
    _once("hosts", "id", (pin.id for pin in export.hosts))
    _once("leases", "id", (lease.id for lease in export.leases))
    _once("leases", "overlay", (str(lease.overlay) for lease in export.leases))
    for number, subject in enumerate(export.operators):
        checked_subject(subject, f"operators[{number}]: ")
    for name in SETTINGS:
        _check_setting(name, export.settings.get(name))


def _owned(host_id: str, subject: str | None, where: str) -> None:
    checked_id(host_id, f"{where}id: ")
    if subject is not None:
        checked_subject(subject, f"{where}subject: ")


def _once(key: str, part: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise NetiError(f"{key}: {part} {value} is there twice: expected once")
        seen.add(value)


def _check_setting(name: SettingName, value: str | None) -> None:
    if value is None:
        return
    where = f"settings.{name} is {printable(value)!r}"
    if name == "strict":
        if strict.decode(value.encode(errors="replace")) is None:
            raise NetiError(f"{where}: expected 'on' or 'off' and a time")
        return
    if name in _DOCUMENTS:
        _DOCUMENTS[name](value.encode(errors="replace"))
        return
    try:
        float(value[:_MAX_VALUE])
    except ValueError:
        raise NetiError(f"{where}: expected a number") from None
