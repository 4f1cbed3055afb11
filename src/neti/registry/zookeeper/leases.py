"""Leases in ZooKeeper: two nodes each, looked at and changed together. No client, no threads.

Must never do: write one half of a lease, or take one that was not looked at in the same call.
"""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from kazoo.exceptions import NodeExistsError, NoNodeError
from kazoo.protocol.serialization import Create, Delete, SetData

from neti.errors import IdentityHeld, LeaseConflict
from neti.model.entry import encode_moved
from neti.registry.leases import (
    DamagedLease,
    candidates,
    exhausted,
    moved_from_nobody,
    moved_while_registered,
)
from neti.registry.untrusted import host_id_text
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.layout import Layout

ANY_VERSION: Final = -1
EPHEMERAL: Final = 1
# After so many addresses that others took meanwhile, look again which are free.
_PROBES_PER_LISTING: Final = 16


class Leases:
    def __init__(self, layout: Layout, make_parents: Callable[[Attempt], None]) -> None:
        self._layout = layout
        self._make_parents = make_parents

    def held(self, attempt: Attempt, host_id: str) -> IPv4Address | None:
        """The id's lease. Raises LeaseConflict when its halves disagree."""
        (data,) = attempt.read([self._layout.by_id(host_id)])
        if data is None:
            return None
        overlay = overlay_of(data)
        holder = attempt.read([self._layout.by_overlay(overlay)])[0] if overlay else None
        if overlay is None or holder != host_id.encode():
            other = host_id_text(holder) if holder is not None else "nobody"
            raise LeaseConflict(
                f"{self._layout.by_id(host_id)} says {host_id_text(data)!r}, "
                f"which belongs to {other} by the other half of the lease: "
                f"give it up (neti lease release {host_id}) and start the agent again"
            )
        return overlay

    def take(
        self, attempt: Attempt, host_id: str, subnet: IPv4Network, prefer: IPv4Address | None
    ) -> IPv4Address | None:
        """A free address, taken; None when the caller should look again."""
        layout = self._layout
        probes = 0
        of_id, of_overlay = attempt.acls([layout.id_to_ip, layout.ip_to_id])
        for overlay in candidates(host_id, subnet, self.taken(attempt), prefer=prefer):
            failure = attempt.multi(
                [
                    _node(layout.by_id(host_id), str(overlay).encode(), rights.of_child(of_id)),
                    _node(
                        layout.by_overlay(overlay), host_id.encode(), rights.of_child(of_overlay)
                    ),
                ]
            )
            if failure is None:
                return overlay
            index, error = failure
            if isinstance(error, NoNodeError):
                self._make_parents(attempt)
                return None
            if not isinstance(error, NodeExistsError):
                raise error
            probes += 1
            if index == 0 or probes == _PROBES_PER_LISTING:
                return None  # this id has a lease now, or many addresses went meanwhile
        if probes:
            return None
        raise exhausted(host_id, subnet)

    def taken(self, attempt: Attempt) -> set[IPv4Address]:
        listed = (overlay_of(name.encode()) for name in attempt.names(self._layout.ip_to_id))
        return {overlay for overlay in listed if overlay is not None}

    def release(
        self, attempt: Attempt, host_id: str
    ) -> tuple[list[Any], IPv4Address | DamagedLease | None]:
        """What gives the id's lease up, and the address that is free then."""
        by_id, agent = self._layout.by_id(host_id), self._layout.agent(host_id)
        (half,) = attempt.read([by_id])
        if attempt.exists(agent):
            raise IdentityHeld(
                f"{host_id} is registered: its agent has to leave before its lease is released"
            )
        if half is None:
            return [], None
        operations = [*absent(agent), Delete(by_id, ANY_VERSION)]
        overlay = overlay_of(half)
        other = self._other_half(attempt, host_id, overlay) if overlay is not None else []
        if overlay is None or not other:  # no address, or another host's: none is free by this
            return operations, DamagedLease(host_id_text(half))
        return [*operations, *other, *self._word(attempt, overlay, host_id)], overlay

    def move(
        self, attempt: Attempt, old: str, new: str, *, force: bool
    ) -> tuple[list[Any], tuple[IPv4Address, IPv4Address | None]]:
        """What gives ``old``'s address to ``new``; that address, and the one that is free then."""
        layout = self._layout
        overlay = self.held(attempt, old)
        if overlay is None:
            raise moved_from_nobody(old)
        if not force and attempt.exists(layout.agent(old)):
            raise moved_while_registered(old)
        (former_data,) = attempt.read([layout.by_id(new)])
        former = overlay_of(former_data) if former_data is not None else None
        operations = [] if force else absent(layout.agent(old))
        operations += [
            Delete(layout.by_id(old), ANY_VERSION),
            Delete(layout.by_overlay(overlay), ANY_VERSION),
        ]
        text, mine = str(overlay).encode(), self._rights_of(attempt, new)
        if former_data is not None:
            operations.append(SetData(layout.by_id(new), text, ANY_VERSION))
            if former is not None:
                operations += self._other_half(attempt, new, former)
        else:
            operations.append(_node(layout.by_id(new), text, mine))
        operations.append(_node(layout.by_overlay(overlay), new.encode(), mine))
        operations += self._word(attempt, overlay, new)
        return operations, (overlay, former)

    def _rights_of(self, attempt: Attempt, host_id: str) -> list[Any]:
        """A lease belongs to whom the host's other nodes belong."""
        layout = self._layout
        parent, lease, agent = attempt.acls(
            [layout.id_to_ip, layout.by_id(host_id), layout.agent(host_id)]
        )
        return rights.of_owner(parent, lease or agent)

    def _word(self, attempt: Attempt, overlay: IPv4Address, host_id: str) -> list[Any]:
        """To everybody who watches; nothing of it stays. A node of that name, which any member can
        make, must not keep an operator from it."""
        path = self._layout.name(encode_moved(overlay, host_id))
        return [*([Delete(path, ANY_VERSION)] if attempt.exists(path) else []), *absent(path)]

    def _other_half(self, attempt: Attempt, host_id: str, overlay: IPv4Address) -> list[Any]:
        """It goes only if it agrees: else it is somebody else's."""
        path = self._layout.by_overlay(overlay)
        return [Delete(path, ANY_VERSION)] if attempt.read([path]) == [host_id.encode()] else []


def absent(path: str) -> list[Any]:
    """Two operations that fail where the node exists: nobody makes it before the step is done."""
    return [Create(path, b"", rights.OPEN, EPHEMERAL), Delete(path, ANY_VERSION)]


def overlay_of(data: bytes) -> IPv4Address | None:
    try:
        return IPv4Address(data[:64].decode("ascii").strip())
    except ValueError:
        return None


def _node(path: str, data: bytes, acl: list[Any]) -> Create:
    return Create(path, data, acl, 0)
