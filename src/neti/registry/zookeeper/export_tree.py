"""``neti registry export``: what of the tree is worth keeping, as a document.

Must never do: write down what an import would refuse, or let one such node spoil the rest.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from neti.errors import NoTree
from neti.model.entry import HOST_ID
from neti.registry.admitted import is_subject
from neti.registry.export import SETTINGS, Export, HeldKey, Leased, Pin
from neti.registry.record import PUBLIC_KEY, REVOKED, HostRecord, decode
from neti.registry.untrusted import bounded_setting, host_id_text
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.admission import has_rights, needs_admission
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.layout import OUTSIDE, Layout
from neti.registry.zookeeper.leases import overlay_of
from neti.text import printable
from neti.words import counted

_PART: Final = 500
_SHOWN: Final = 60


def look(attempt: Attempt, layout: Layout, at: str) -> tuple[Export, list[str]]:
    """And what was left out, each with the reason."""
    left_out: list[str] = []
    acls = attempt.acls([layout.ip_map])
    if not acls[0]:
        raise NoTree(f"there is nothing to export\n{layout.no_tree}")
    leases = _leases(attempt, layout, left_out)
    hosts = _hosts(attempt, layout, left_out)
    known = {lease.id for lease in leases} | {pin.id for pin in hosts}
    keys = _keys(attempt, layout, known, left_out)
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
        keys=keys,
        settings=settings,
        admission=needs_admission(attempt, layout) if has_rights(attempt, layout) else None,
        root_closed=bool(rights.operators(acls[0])) and root_closed(attempt),
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


def _keys(
    attempt: Attempt, layout: Layout, known: set[str], left_out: list[str]
) -> tuple[HeldKey, ...]:
    """Whose each public key is. A member can make keys of hosts that do not exist by the thousand:
    they are counted."""
    found, of_nobody = [], 0
    names = sorted(key for key in attempt.names(layout.keys) if PUBLIC_KEY.fullmatch(key))
    for keys in _parts(names):
        attempt.go_on()
        holders = attempt.read(list(map(layout.key, keys)), unread=set())
        for key, holder in zip(keys, holders, strict=True):
            whose = host_id_text(holder or b"")
            if whose == REVOKED:
                found.append(HeldKey(key))
            elif whose in known:
                found.append(HeldKey(key, whose))
            else:
                of_nobody += 1
    if of_nobody:
        left_out.append(f"{counted(of_nobody, 'public key')} of no host that is in the file")
    return tuple(found)


def root_closed(attempt: Attempt) -> bool:
    """Whether members may do nothing beside the tree, as after 'init --close-root'."""
    closed = set[str]()
    found = attempt.acls(OUTSIDE, unread=closed)
    return not closed and all(acl and not rights.world(acl) & ~rights.READ for acl in found)


def _fault(owners: Sequence[str]) -> str:
    """Why it cannot be written down. Whoever makes a node chooses its owner, and an import takes no
    file with one that no certificate has."""
    if len(owners) > 1:
        return "belongs to several certificates"
    if owners and not is_subject(owners[0]):
        return f"belongs to {printable(owners[0], _SHOWN)!r}, and no certificate has that subject"
    return ""


def _parts(every: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(every), _PART):
        yield every[first : first + _PART]
