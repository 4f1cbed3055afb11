"""Leases in ZooKeeper: two nodes each, looked at and changed together. No client, no threads.

Must never do: write one half of a lease, or take one that was not looked at in the same call.
"""

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network
from secrets import token_hex
from socket import AF_INET, inet_ntop, inet_pton
from typing import Any, Final

from kazoo.exceptions import NodeExistsError, NoNodeError
from kazoo.protocol.serialization import Create, Delete, SetData

from neti.errors import IdentityHeld, LeaseConflict, RegistryError
from neti.model.entry import encode_moved
from neti.registry.leases import (
    DamagedLease,
    candidates,
    exhausted,
    moved_from_nobody,
    moved_while_registered,
)
from neti.registry.record import HostRecord, decode, encode
from neti.registry.untrusted import host_id_text
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt, session_of
from neti.registry.zookeeper.layout import Layout, removal
from neti.text import command, printable
from neti.words import some

ANY_VERSION: Final = -1
EPHEMERAL: Final = 1
# After so many addresses that others took meanwhile, look again which are free.
_PROBES_PER_LISTING: Final = 16
_ID_IN_WORD: Final = 31  # beside a dot and eight digits


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
                f"give it up ({command('neti lease release', host_id)}) and start the agent again"
            )
        return overlay

    def check_rights(self, attempt: Attempt, host_id: str, overlay: IPv4Address) -> None:
        """Raises LeaseConflict where others than operators may write a lease that is there: anybody
        may have made it before its host came, and would give it to another one afterwards."""
        layout = self._layout
        halves = (layout.by_id(host_id), layout.by_overlay(overlay))
        parent, *held = attempt.acls([layout.ip_to_id, *halves])
        if rights.harmful(parent):
            return
        others = {str(one.id) for acl in held for one in rights.harmful_others(acl, parent)}
        if others:
            raise LeaseConflict(
                f"the lease of {overlay} may be written by "
                f"{some([printable(one, 100) for one in sorted(others)])}, who could give it to "
                f"another host, so {host_id} does not register with it\n"
                f"→ an operator runs: {command('neti lease release', host_id)}"
            )

    def take(
        self, attempt: Attempt, host_id: str, subnet: IPv4Network, prefer: IPv4Address | None
    ) -> IPv4Address | None:
        """Take a free address; None if the caller should look again."""
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
        listed = map(overlay_named, attempt.names(self._layout.ip_to_id))
        return {overlay for overlay in listed if overlay is not None}

    def release(
        self, attempt: Attempt, host_id: str
    ) -> tuple[list[Any], IPv4Address | DamagedLease | None]:
        """The operations that give up the id's lease, and the address that becomes free."""
        by_id = self._layout.by_id(host_id)
        registered = IdentityHeld(
            f"{host_id} is registered: its agent has to leave before its lease is released"
        )
        guard = self._not_registered(attempt, host_id, registered)
        closed: set[str] = set()
        (half,) = attempt.read([by_id], unread=closed)
        # With the lease goes the certificate that the id belonged to.
        unpin = self._silence(attempt, host_id, unpins=True)
        if half is None and not closed:
            return [*guard, *unpin] if unpin else [], None
        self._refuse_nodes_below(attempt, [by_id])
        operations = [*guard, Delete(by_id, ANY_VERSION), *unpin]
        if half is None:
            return operations, DamagedLease("what nobody but its maker may read")
        overlay = overlay_of(half)
        other = self._other_half(attempt, host_id, overlay) if overlay is not None else []
        if overlay is None or not other:  # no address, or another host's: none is free by this
            return operations, DamagedLease(host_id_text(half))
        return [*operations, *other, *self._word(attempt, overlay, host_id)], overlay

    def move(
        self, attempt: Attempt, old: str, new: str, *, force: bool
    ) -> tuple[list[Any], tuple[IPv4Address, IPv4Address | None]]:
        """The operations that give ``old``'s address to ``new``; that address, and the one that
        becomes free."""
        layout = self._layout
        overlay = self.held(attempt, old)
        if overlay is None:
            raise moved_from_nobody(old)
        guard = [] if force else self._not_registered(attempt, old, moved_while_registered(old))
        closed: set[str] = set()
        (former_data,) = attempt.read([layout.by_id(new)], unread=closed)
        former = overlay_of(former_data) if former_data is not None else None
        halves = [layout.by_id(old), layout.by_overlay(overlay), layout.by_id(new)]
        self._refuse_nodes_below(attempt, halves)
        operations = [
            *guard,
            # What it says of its address is not true any more. The record of ``new`` is its own.
            *self._silence(attempt, old, unpins=False),
            Delete(layout.by_id(old), ANY_VERSION),
            Delete(layout.by_overlay(overlay), ANY_VERSION),
        ]
        text, mine = str(overlay).encode(), self._rights_of(attempt, new)
        if former_data is not None or closed:
            # Not written, but made anew: its maker may have given operators no right to write.
            operations.append(Delete(layout.by_id(new), ANY_VERSION))
        if former is not None:
            operations += self._other_half(attempt, new, former)
        operations.append(_node(layout.by_id(new), text, mine))
        operations.append(_node(layout.by_overlay(overlay), new.encode(), mine))
        operations += self._word(attempt, overlay, new, former)
        return operations, (overlay, former)

    def _rights_of(self, attempt: Attempt, host_id: str) -> list[Any]:
        """A lease belongs to the owner of the host's other nodes, above all of its record."""
        layout = self._layout
        (parent,) = attempt.acls([layout.id_to_ip])
        paths = [layout.host(host_id), layout.by_id(host_id), layout.agent(host_id)]
        found = attempt.acls(paths, unread=set())
        owned = next((acl for acl in found if rights.owners(acl)), None)
        return rights.of_owner(parent, owned)

    def _word(
        self,
        attempt: Attempt,
        overlay: IPv4Address,
        host_id: str,
        former: IPv4Address | None = None,
    ) -> list[Any]:
        """To everybody who watches; nothing of it stays. A node of that name, which any member can
        make, must not keep an operator from it: where that one cannot go because of what stands
        below it, the word is said by names that nobody can have foreseen. Who holds or claims one
        of the addresses listens to those as well."""
        path = self._layout.name(encode_moved(overlay, host_id))
        (stat,) = attempt.stats([path])
        if stat is None:
            return absent(path)
        if not stat.numChildren:
            return [Delete(path, ANY_VERSION), *absent(path)]
        unforeseen = f"{host_id[:_ID_IN_WORD]}.{token_hex(4)}"
        said = [encode_moved(each, unforeseen) for each in (overlay, former) if each is not None]
        return [operation for name in said for operation in absent(self._layout.name(name))]

    def _other_half(self, attempt: Attempt, host_id: str, overlay: IPv4Address) -> list[Any]:
        """Deleted only if it agrees; otherwise it is another host's."""
        path = self._layout.by_overlay(overlay)
        if attempt.read([path], unread=set()) != [host_id.encode()]:
            return []
        self._refuse_nodes_below(attempt, [path])
        return [Delete(path, ANY_VERSION)]

    def _silence(self, attempt: Attempt, host_id: str, *, unpins: bool) -> list[Any]:
        """What makes the host's record say nothing; ``unpins``: and the id nobody's. Where members
        may not begin a host the id stays admitted, for the certificate that it was admitted for."""
        path = self._layout.host(host_id)
        (held,) = attempt.nodes([path], unread=set())
        (stat,) = attempt.stats([path])
        if stat is None:
            return []
        of_hosts, acl = attempt.acls([self._layout.hosts, path], unread=set())
        record = decode(held[0]) if held is not None else None
        unlock = self._give_up_key(attempt, host_id, record.key) if record is not None else []
        writes = _operators_write(of_hosts, acl)
        if writes and not (unpins and rights.world(of_hosts) & rights.CREATE):
            if record == HostRecord():
                return []
            return [SetData(path, encode(HostRecord()), stat.version), *unlock]
        self._refuse_nodes_below(attempt, [path])
        return [Delete(path, stat.version), *unlock]

    def _give_up_key(self, attempt: Attempt, host_id: str, key: str) -> list[Any]:
        """Nobody holds the key that the host's record says."""
        path = self._layout.key(key)
        if not key or attempt.read([path], unread=set()) != [host_id.encode()]:
            return []
        (stat,) = attempt.stats([path])
        if stat is None or stat.numChildren:
            return []  # a member has put something below it: no reason to keep the lease
        return [Delete(path, ANY_VERSION)]

    def _not_registered(
        self, attempt: Attempt, host_id: str, registered: IdentityHeld
    ) -> list[Any]:
        """Raises ``registered`` when the host is; else what keeps it from registering before the
        step is done, where its record does not. A node of no session, which no agent makes, does
        that by itself."""
        path, own = self._layout.agent(host_id), self._layout.host(host_id)
        (held,) = attempt.nodes([own], unread=set())
        (stat,) = attempt.stats([path])
        record = decode(held[0]) if held is not None else None
        said = record is not None and bool(record.word)
        if held is not None and record is not None and said:
            (named,) = attempt.stats([self._layout.name(record.word)])
            alive = named is not None and named.czxid == held[1].mzxid
            if alive and not record.word.startswith("left."):
                raise registered
        if stat is None:
            return absent(path)
        if session_of(stat) and not self._is_strangers(attempt, own, path, said=said):
            raise registered
        return []

    def _is_strangers(self, attempt: Attempt, record: str, agent: str, *, said: bool) -> bool:
        """Whether somebody else than the host made its document: anybody may, with any rights, and
        it does not keep an operator from the lease. ``said``: the record has named an entry, or a
        goodbye. Where only the host can write it, it says whether the host is registered."""
        paths = [self._layout.hosts, record, agent]
        of_hosts, of_record, of_agent = attempt.acls(paths, unread=set())
        if said and not rights.harmful(of_hosts):
            return True
        mine, theirs = rights.owners(of_record), rights.owners(of_agent)
        return bool(mine and theirs) and not set(mine) & set(theirs)

    def _refuse_nodes_below(self, attempt: Attempt, paths: Sequence[str]) -> None:
        """ZooKeeper deletes no node that has others below it, and no lease has."""
        nailed = [
            path
            for path, stat in zip(paths, attempt.stats(paths), strict=True)
            if stat is not None and stat.numChildren
        ]
        if nailed:
            raise RegistryError(
                f"{printable(nailed[0])} has nodes below it, which no agent makes, so it cannot be "
                f"deleted as it is; nothing was changed\n→ {removal(*nailed)}"
            )


def absent(path: str) -> list[Any]:
    """Two operations that fail where the node exists: nobody makes it before the step is done."""
    return [Create(path, b"", rights.OPEN, EPHEMERAL), Delete(path, ANY_VERSION)]


def overlay_of(data: bytes) -> IPv4Address | None:
    try:
        return IPv4Address(data[:64].decode("ascii").strip())
    except ValueError:
        return None


def overlay_named(name: str) -> IPv4Address | None:
    """The address that a node of ``ip_to_id`` stands for. Any spelling but ours is junk, and must
    never be taken for the node of that address."""
    try:
        packed = inet_pton(AF_INET, name)  # in a third of the time that IPv4Address takes
    except (OSError, ValueError):
        return None
    return IPv4Address(packed) if inet_ntop(AF_INET, packed) == name else None


def keeps_record(attempt: Attempt, layout: Layout, host_id: str) -> bool:
    """Whether the id has a record that stays when its lease moves: otherwise it is nobody's."""
    path = layout.host(host_id)
    (stat,) = attempt.stats([path])
    of_hosts, acl = attempt.acls([layout.hosts, path], unread=set())
    return stat is not None and _operators_write(of_hosts, acl)


def _operators_write(of_hosts: rights.Rights, acl: rights.Rights) -> bool:
    """Whether operators may write a record with these rights."""
    known = set(rights.operators(of_hosts))
    return bool(rights.world(acl) & rights.WRITE or known & set(rights.operators(acl)))


def _node(path: str, data: bytes, acl: list[Any]) -> Create:
    return Create(path, data, acl, 0)
