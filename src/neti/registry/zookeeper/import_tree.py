"""``neti registry import``: what a document has and the tree has not.

A tree that does not exist is laid out closed: members can make nothing in it until the whole
document is written. So nobody gets an id or an address before its owner.

Must never do: change an existing node, except for the rights of parents that it closed itself, and
the list of revoked keys, which only gets longer. What is beside the tree is not Neti's alone.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from kazoo.exceptions import (
    BadVersionError,
    NodeExistsError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.protocol.serialization import Create, SetACL, SetData, Transaction
from kazoo.security import Id

from neti.errors import RegistryError
from neti.registry.export import SETTINGS, Export
from neti.registry.record import REVOKED, HostRecord, encode
from neti.registry.revoked import joined
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.import_plan import ImportPlan
from neti.registry.zookeeper.init import InitPlan
from neti.registry.zookeeper.layout import Layout
from neti.registry.zookeeper.leases import ANY_VERSION

_PART: Final = 500
# Another was faster; of a lease then nothing was made. What is missing is looked at once more.
_NOT_MADE: Final = (NodeExistsError, BadVersionError, RolledBackError, RuntimeInconsistency)


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
    of_id, of_overlay, of_hosts, of_keys, of_root = attempt.acls(
        [layout.id_to_ip, layout.ip_to_id, layout.hosts, layout.keys, layout.root or "/"]
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
    subjects = {pin.id: pin.subject for pin in export.hosts}
    for keys in _parts(planned.keys):
        attempt.go_on()
        _make(
            attempt,
            [
                _node(
                    layout.key(one.key),
                    (one.id or REVOKED).encode(),
                    of_keys,
                    subjects.get(one.id or ""),
                )
                for one in keys
            ],
        )
    attempt.go_on()
    (listed,) = attempt.nodes([layout.revoked])
    settings = [name for name in SETTINGS if name in planned.settings]
    _make(
        attempt,
        [
            # What was revoked since it was planned stays: the list and its version are of one read.
            SetData(
                layout.revoked,
                joined(export.settings[name].encode(), listed[0]),
                listed[1].version,
            )
            if name == "revoked" and listed is not None
            else _node(layout.setting(name), planned.settings[name].encode(), of_root, None)
            for name in settings
        ],
    )


def open_up(attempt: Attempt, layout: Layout, init: InitPlan, *, admission: bool) -> None:
    """Members may make what is theirs, as in every tree."""
    opened = _of_parents(init, layout, members=rights.READ | rights.CREATE)
    if admission and opened:
        opened[layout.hosts] = rights.closed(init.subjects, members=rights.READ)
    # The parent of entries last: by it an import that follows a killed one tells that not all is
    # open yet.
    for path in sorted(opened, key=lambda path: path == layout.ip_map):
        attempt.one(SetACL(path, list(opened[path]), ANY_VERSION))


def _of_parents(init: InitPlan, layout: Layout, *, members: int) -> dict[str, Sequence[Any]]:
    if not init.subjects:
        return {}
    return {
        path: rights.closed(init.subjects, members=members) for path in layout.open_to_members()
    }


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


def _parts(every: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(every), _PART):
        yield every[first : first + _PART]
