"""What of a document a tree lacks, and what is there and is not as in it. Changes nothing.

Must never do: call a node missing that is there and may not be read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from neti.errors import RegistryError
from neti.model.groups import Groups
from neti.model.names import Names
from neti.registry import groups, names, revoked, strict
from neti.registry.export import SETTINGS, Export, HeldKey, Leased, Pin
from neti.registry.record import REVOKED
from neti.registry.revoked import RevokedUnreadable
from neti.registry.untrusted import bounded_setting, host_id_text
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.admission import (
    INTERRUPTED,
    has_rights,
    needs_admission,
    unfinished,
)
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.export_tree import root_closed
from neti.registry.zookeeper.layout import Layout
from neti.text import printable

_PART: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPlan:
    """What is missing; ``differs``: what is there and is not as in the document; ``lays_out``: the
    tree is not there, or an import that laid it out was killed before its end; ``root_open``:
    members may do more beside the tree than when the document was written. No import changes that:
    other programs may use these servers by now."""

    lays_out: bool
    leases: tuple[Leased, ...]
    hosts: tuple[Pin, ...]
    keys: tuple[HeldKey, ...]
    settings: Mapping[str, str]
    differs: tuple[str, ...]
    root_open: bool = False

    @property
    def missing(self) -> bool:
        return bool(self.leases or self.hosts or self.keys or self.settings)

    @property
    def nothing(self) -> bool:
        return not (self.lays_out or self.missing)


def plan(attempt: Attempt, layout: Layout, export: Export, *, secure: bool) -> ImportPlan:
    """``secure``: this client has a certificate, so that a tree gets rights."""
    (acl,) = attempt.acls([layout.ip_map])
    if secure and acl and rights.harmful(acl):
        raise RegistryError(
            "this tree has no access rights, so what is imported could be anybody's; nothing was "
            "changed\n→ neti registry init"
        )
    lays_out = not acl or not rights.world(acl) & rights.CREATE
    closed = secure if not acl else not rights.harmful(acl)
    root_open = export.root_closed and closed and not root_closed(attempt)
    if not acl:
        return _of_nothing(export, closed=closed, root_open=root_open)
    differs: list[str] = []
    leases = tuple(_missing_leases(attempt, layout, export.leases, differs))
    hosts = tuple(_missing_hosts(attempt, layout, export.hosts, differs, closed=closed))
    keys = tuple(_missing_keys(attempt, layout, export.keys, differs, lays_out=lays_out))
    settings = _missing_settings(attempt, layout, export.settings, differs)
    if export.admission is not None and not lays_out:
        now = needs_admission(attempt, layout) if has_rights(attempt, layout) else None
        if now != export.admission:
            differs.append(
                f"admission is {_word(export.admission)} in the file, {_word(now)} in the "
                f"registry: 'neti registry admission {_word(export.admission)}' makes it so"
            )
        if now is not None and unfinished(attempt, layout):
            differs.append(" ".join(INTERRUPTED.splitlines()))
    return ImportPlan(
        lays_out=lays_out,
        leases=leases,
        hosts=hosts,
        keys=keys,
        settings=settings,
        differs=tuple(differs),
        root_open=root_open,
    )


def _of_nothing(export: Export, *, closed: bool, root_open: bool) -> ImportPlan:
    """There is no tree, so everything is missing."""
    needs = [pin for pin in export.hosts if closed and pin.subject is None]
    return ImportPlan(
        lays_out=True,
        leases=export.leases,
        hosts=tuple(pin for pin in export.hosts if not closed or pin.subject is not None),
        keys=export.keys,
        settings={name: export.settings[name] for name in SETTINGS if name in export.settings},
        differs=tuple(_needs_certificate(pin) for pin in needs),
        root_open=root_open,
    )


def _needs_certificate(pin: Pin) -> str:
    return (
        f"{pin.id} has no certificate in the file, and needs one in this registry: "
        "'neti registry admit' gives it one"
    )


def _missing_leases(
    attempt: Attempt, layout: Layout, wanted: Sequence[Leased], differs: list[str]
) -> Iterator[Leased]:
    for leases in _parts(wanted):
        attempt.go_on()
        closed: set[str] = set()
        halves = [layout.by_id(one.id) for one in leases]
        others = [layout.by_overlay(one.overlay) for one in leases]
        of_id = attempt.read(halves, unread=closed)
        of_overlay = attempt.read(others, unread=closed)
        acls = attempt.acls(halves, unread=closed)
        for number, one in enumerate(leases):
            has_id = of_id[number] is not None or halves[number] in closed
            has_overlay = of_overlay[number] is not None or others[number] in closed
            if not has_id and not has_overlay:
                yield one
            elif of_id[number] == str(one.overlay).encode() and of_overlay[number] == (
                one.id.encode()
            ):
                _compare_owner(f"the lease of {one.id}", one.subject, acls[number], differs)
            elif has_id:
                says = host_id_text(of_id[number] or b"")
                differs.append(
                    f"the lease of {one.id} is {one.overlay} in the file, {says} in the registry"
                )
            else:
                holder = host_id_text(of_overlay[number] or b"")
                differs.append(
                    f"{one.overlay} belongs to {one.id} in the file, to {holder} in the registry"
                )


def _missing_hosts(
    attempt: Attempt, layout: Layout, wanted: Sequence[Pin], differs: list[str], *, closed: bool
) -> Iterator[Pin]:
    for pins in _parts(wanted):
        attempt.go_on()
        unread: set[str] = set()
        paths = [layout.host(pin.id) for pin in pins]
        for pin, path, acl in zip(pins, paths, attempt.acls(paths, unread=unread), strict=True):
            if acl or path in unread:
                _compare_owner(f"the record of {pin.id}", pin.subject, acl, differs)
            elif closed and pin.subject is None:
                differs.append(_needs_certificate(pin))
            else:
                yield pin


def _missing_keys(
    attempt: Attempt,
    layout: Layout,
    wanted: Sequence[HeldKey],
    differs: list[str],
    *,
    lays_out: bool,
) -> Iterator[HeldKey]:
    """``lays_out``: their place is made before they are."""
    if wanted and not lays_out and not attempt.exists(layout.keys):
        differs.append(
            "the registry has no place for public keys, because an earlier version laid it out: "
            "'neti registry init' makes one"
        )
        return
    for keys in _parts(wanted):
        attempt.go_on()
        unread: set[str] = set()
        paths = [layout.key(one.key) for one in keys]
        for one, path, held in zip(keys, paths, attempt.read(paths, unread=unread), strict=True):
            if held is None and path not in unread:
                yield one
            elif held != (one.id or REVOKED).encode():
                differs.append(
                    f"the key {one.key} {_whose(one.id or REVOKED)} in the file, "
                    f"{_whose(host_id_text(held or b''))} in the registry"
                )


def _whose(holder: str) -> str:
    return "is revoked" if holder == REVOKED else f"belongs to {holder or 'somebody'}"


def _missing_settings(
    attempt: Attempt, layout: Layout, wanted: Mapping[str, str], differs: list[str]
) -> dict[str, str]:
    missing: dict[str, str] = {}
    for name, held in zip(
        SETTINGS, attempt.read([layout.setting(each) for each in SETTINGS]), strict=True
    ):
        if name not in wanted:
            continue
        value = wanted[name].encode()
        if held is None:
            missing[name] = wanted[name]
        elif name == "revoked":
            try:
                longer = revoked.joined(value, held)
            except RevokedUnreadable as error:
                differs.append(str(error))
            else:
                missing.update({name: longer.decode()} if longer != held else {})
        elif name in _READERS and held != value:
            differs.append(
                f"{_edition(name, value)} in the file, {_edition(name, held)} in the registry"
            )
        elif _meaning(name, held) != _meaning(name, value):
            says = printable(bounded_setting(name, held).decode(errors="replace"))
            differs.append(f"{name} is {wanted[name]} in the file, {says} in the registry")
    return missing


# The documents that are long, and have an edition.
_READERS: Final[Mapping[str, Callable[[bytes], Groups | Names]]] = {
    "groups": groups.decode,
    "names": names.decode,
}


def _edition(name: str, raw: bytes) -> str:
    """For people: the document itself is long."""
    try:
        return f"{name} have edition {_READERS[name](raw).edition}"
    except RegistryError:
        return f"{name} cannot be read"


def _meaning(name: str, value: bytes) -> object:
    """Two values of ``strict`` are the same even if they were set at different times."""
    said = strict.decode(value) if name == "strict" else None
    return said.on if said is not None else value


def _compare_owner(what: str, subject: str | None, acl: rights.Rights, differs: list[str]) -> None:
    owners = rights.owners(acl)
    if subject is not None and owners and owners != [subject]:
        differs.append(f"{what} belongs to {subject} in the file, {owners[0]} in the registry")


def _word(admission: bool | None) -> str:
    return {True: "on", False: "off", None: "impossible (no rights)"}[admission]


def _parts(every: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(every), _PART):
        yield every[first : first + _PART]
