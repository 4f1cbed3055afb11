"""``neti registry export`` and ``import``: the tree as a document, and the other way.

A tree that does not exist is laid out closed: members can make nothing in it until the whole
document is written. So nobody gets an id or an address before its owner.

Must never do: change an existing node, except for the rights of parents that it closed itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kazoo.exceptions import NodeExistsError, RolledBackError, RuntimeInconsistency
from kazoo.protocol.serialization import Create, SetACL, Transaction
from kazoo.security import Id

from neti.errors import NoTree, RegistryError
from neti.model.entry import HOST_ID
from neti.registry import strict
from neti.registry.admitted import is_subject
from neti.registry.export import SETTINGS, Export, Leased, Pin
from neti.registry.record import HostRecord, decode, encode
from neti.registry.untrusted import bounded_setting, host_id_text
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.admission import (
    INTERRUPTED,
    has_rights,
    needs_admission,
    unfinished,
)
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.init import InitPlan
from neti.registry.zookeeper.layout import Layout
from neti.registry.zookeeper.leases import ANY_VERSION, overlay_of
from neti.text import printable

_PART: Final = 500
_SHOWN: Final = 60
# Another was faster; of a lease then nothing was made. What is missing is looked at once more.
_NOT_MADE: Final = (NodeExistsError, RolledBackError, RuntimeInconsistency)


# --- out ---


def look(attempt: Attempt, layout: Layout, at: str) -> tuple[Export, list[str]]:
    """And what was left out, each with the reason."""
    left_out: list[str] = []
    acls = attempt.acls([layout.ip_map])
    if not acls[0]:
        raise NoTree(f"there is nothing to export\n{layout.no_tree}")
    leases = _leases(attempt, layout, left_out)
    hosts = _hosts(attempt, layout, left_out)
    values = attempt.read([layout.setting(name) for name in SETTINGS])
    settings: dict[str, str] = {
        name: bounded_setting(name, value).decode(errors="replace")
        for name, value in zip(SETTINGS, values, strict=True)
        if value is not None
    }
    (fleet,) = attempt.read([layout.fleet], unread=set())
    export = Export(
        leases=leases,
        hosts=hosts,
        settings=settings,
        admission=needs_admission(attempt, layout) if has_rights(attempt, layout) else None,
        operators=tuple(str(one.id) for one in rights.operators(acls[0]) if one.scheme == "x509"),
        at=at,
        fleet=printable((fleet or b"")[:64].decode(errors="replace")),
    )
    return export, left_out


def _leases(attempt: Attempt, layout: Layout, left_out: list[str]) -> tuple[Leased, ...]:
    """Oldest first, by the last write of the half that names the host."""
    found: list[tuple[int, Leased]] = []
    for ids in _parts([i for i in attempt.names(layout.id_to_ip) if HOST_ID.fullmatch(i)]):
        attempt.go_on()
        closed: set[str] = set()
        halves = [layout.by_id(host_id) for host_id in ids]
        overlays = [overlay_of(data or b"") for data in attempt.read(halves, unread=closed)]
        acls = attempt.acls(halves, unread=closed)
        known = [overlay for overlay in overlays if overlay is not None]
        others = dict(
            zip(
                known,
                attempt.nodes(list(map(layout.by_overlay, known)), unread=closed),
                strict=True,
            )
        )
        for host_id, overlay, acl in zip(ids, overlays, acls, strict=True):
            other = others[overlay] if overlay is not None else None
            owners = rights.owners(acl)
            if overlay is None or other is None or host_id_text(other[0]) != host_id:
                left_out.append(f"the lease of {host_id} is damaged")
            elif fault := _fault(owners):
                left_out.append(f"the lease of {host_id} {fault}")
            else:
                subject = owners[0] if owners else None
                found.append((other[1].mzxid, Leased(overlay, host_id, subject)))
    return tuple(lease for _, lease in sorted(found, key=lambda one: one[0]))


def _hosts(attempt: Attempt, layout: Layout, left_out: list[str]) -> tuple[Pin, ...]:
    found = []
    for ids in _parts(sorted(i for i in attempt.names(layout.hosts) if HOST_ID.fullmatch(i))):
        attempt.go_on()
        paths = [layout.host(host_id) for host_id in ids]
        records, acls = attempt.read(paths, unread=set()), attempt.acls(paths, unread=set())
        for host_id, record, acl in zip(ids, records, acls, strict=True):
            owners = rights.owners(acl)
            if fault := _fault(owners):
                left_out.append(f"the record of {host_id} {fault}")
            else:
                came = record is None or decode(record) != HostRecord()
                found.append(Pin(host_id, owners[0] if owners else None, came))
    return tuple(found)


def _fault(owners: Sequence[str]) -> str:
    """Why it cannot be written down. Whoever makes a node chooses its owner, and an import takes no
    file with one that no certificate has."""
    if len(owners) > 1:
        return "belongs to several certificates"
    if owners and not is_subject(owners[0]):
        return f"belongs to {printable(owners[0], _SHOWN)!r}, and no certificate has that subject"
    return ""


# --- in ---


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPlan:
    """What is missing; ``differs``: what is there and is not as in the document; ``lays_out``: the
    tree is not there, or an import that laid it out was killed before its end."""

    lays_out: bool
    leases: tuple[Leased, ...]
    hosts: tuple[Pin, ...]
    settings: Mapping[str, str]
    differs: tuple[str, ...]

    @property
    def nothing(self) -> bool:
        return not (self.lays_out or self.leases or self.hosts or self.settings)


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
    if not acl:
        return _of_nothing(export, closed=closed)
    differs: list[str] = []
    leases = tuple(_missing_leases(attempt, layout, export.leases, differs))
    hosts = tuple(_missing_hosts(attempt, layout, export.hosts, differs, closed=closed))
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
        settings=settings,
        differs=tuple(differs),
    )


def _of_nothing(export: Export, *, closed: bool) -> ImportPlan:
    """There is no tree, so everything is missing."""
    needs = [pin for pin in export.hosts if closed and pin.subject is None]
    return ImportPlan(
        lays_out=True,
        leases=export.leases,
        hosts=tuple(pin for pin in export.hosts if not closed or pin.subject is not None),
        settings={name: export.settings[name] for name in SETTINGS if name in export.settings},
        differs=tuple(_needs_certificate(pin) for pin in needs),
    )


def _needs_certificate(pin: Pin) -> str:
    return (
        f"{pin.id} has no certificate in the file, and needs one in this registry: "
        "'neti registry admit' gives it one"
    )


def lay_out(attempt: Attempt, layout: Layout, init: InitPlan) -> None:
    """The tree, closed to members where it has rights."""
    closing = _of_parents(init, layout, members=rights.READ)
    made = [
        Create(step.path, step.data, list(closing.get(step.path, step.acl)), 0)
        for step in init.steps
        if step.data is not None
    ]
    if not made or attempt.multi(made) is None:
        return
    for each, answer in zip(made, attempt.each(made), strict=True):  # some of it is there
        if isinstance(answer, Exception) and not isinstance(answer, NodeExistsError):
            raise RegistryError(
                f"{each.path} could not be made ({type(answer).__name__})"
            ) from answer


def carry_out(attempt: Attempt, layout: Layout, planned: ImportPlan, export: Export) -> None:
    """Each lease whole or not at all. May be repeated; what another made first stays as it is."""
    of_id, of_overlay, of_hosts, of_root = attempt.acls(
        [layout.id_to_ip, layout.ip_to_id, layout.hosts, layout.root or "/"]
    )
    for leases in _parts(planned.leases):
        attempt.go_on()
        _make(
            attempt,
            [
                Transaction(
                    [
                        _node(layout.by_id(one.id), str(one.overlay).encode(), of_id, one.subject),
                        _node(
                            layout.by_overlay(one.overlay),
                            one.id.encode(),
                            of_overlay,
                            one.subject,
                        ),
                    ]
                )
                for one in leases
            ],
        )
    # It names the address, as one does that 'init' makes: its host has been here before. Of all
    # leases, because those of a run that was killed are not missing any more.
    overlays = {one.id: one.overlay for one in export.leases}
    for hosts in _parts(planned.hosts):
        attempt.go_on()
        _make(
            attempt,
            [
                _node(
                    layout.host(pin.id),
                    encode(HostRecord(overlay=overlays.get(pin.id) if pin.came else None)),
                    of_hosts,
                    pin.subject,
                    also=rights.WRITE,
                )
                for pin in hosts
            ],
        )
    attempt.go_on()
    paths = {name: layout.setting(name) for name in SETTINGS}
    _make(
        attempt,
        [
            _node(paths[name], planned.settings[name].encode(), of_root, None)
            for name in SETTINGS
            if name in planned.settings
        ],
    )


def open_up(attempt: Attempt, layout: Layout, init: InitPlan, *, admission: bool) -> None:
    """Members may make what is theirs, as in every tree."""
    opened = _of_parents(init, layout, members=rights.READ | rights.CREATE)
    if admission and opened:
        opened[layout.hosts] = rights.closed(init.subjects, members=rights.READ)
    for path, acl in opened.items():
        attempt.one(SetACL(path, list(acl), ANY_VERSION))


def _of_parents(init: InitPlan, layout: Layout, *, members: int) -> dict[str, Sequence[Any]]:
    if not init.subjects:
        return {}
    return {
        path: rights.closed(init.subjects, members=members) for path in layout.open_to_members()
    }


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
        elif _meaning(name, held) != _meaning(name, value):
            says = printable(bounded_setting(name, held).decode(errors="replace"))
            differs.append(f"{name} is {wanted[name]} in the file, {says} in the registry")
    return missing


def _meaning(name: str, value: bytes) -> object:
    """Two values of ``strict`` are the same even if they were set at different times."""
    said = strict.decode(value) if name == "strict" else None
    return said.on if said is not None else value


def _compare_owner(what: str, subject: str | None, acl: rights.Rights, differs: list[str]) -> None:
    owners = rights.owners(acl)
    if subject is not None and owners and owners != [subject]:
        differs.append(f"{what} belongs to {subject} in the file, {owners[0]} in the registry")


def _make(attempt: Attempt, requests: Sequence[Any]) -> None:
    for answer in attempt.each(requests):
        for error in answer if isinstance(answer, list) else [answer]:
            if isinstance(error, Exception) and not isinstance(error, _NOT_MADE):
                raise error


def _node(
    path: str, data: bytes, parent: rights.Rights, subject: str | None, *, also: int = 0
) -> Create:
    owner = Id("x509", subject) if subject is not None else None
    return Create(path, data, rights.of_child(parent, also=also, owner=owner), 0)


def _word(admission: bool | None) -> str:
    return {True: "on", False: "off", None: "impossible (no rights)"}[admission]


def _parts(every: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(every), _PART):
        yield every[first : first + _PART]
