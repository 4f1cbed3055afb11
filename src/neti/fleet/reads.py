"""What must be read from the registry, what is being read, and whose each lease was. Pure.

It promises that each question is handed out once, and stays open until it is answered or its entry
is gone; ``again`` makes open questions due once more. If nobody held an address, it is asked about
a second time. Otherwise some agents would see a lease that is made right after its entry, or during
the read, and others would not.

Must never do: ask the registry itself, or take the answer to an earlier question for the answer to
one that was not handed out yet.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import Final, TypeVar

from neti.model import Member
from neti.model.wireguard_key import PublicKey

H = TypeVar("H")

_UNREAD: Final = object()
MAX_UNLEASED: Final = 1000  # addresses that are asked about a second time


@dataclass(frozen=True, slots=True)
class Questions:
    """What must be read from the registry before everything can be decided."""

    leases: frozenset[IPv4Address]
    data: frozenset[str]
    hosts: frozenset[str] = frozenset()
    keys: frozenset[PublicKey] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.leases or self.data or self.hosts or self.keys)


_NOTHING: Final = Questions(frozenset(), frozenset())


class Asking:
    """Not thread-safe: the fleet owns it. ``owners``: leases as read, until they are forgotten."""

    def __init__(self) -> None:
        self._owners: dict[IPv4Address, str | None] = {}
        self.owners: Mapping[IPv4Address, str | None] = MappingProxyType(self._owners)
        self._due_leases: set[IPv4Address] = set()
        self._due_data: set[str] = set()
        self._open_leases: set[IPv4Address] = set()
        self._open_data: set[str] = set()
        self._due_hosts: set[str] = set()
        self._open_hosts: set[str] = set()
        self._due_keys: set[PublicKey] = set()
        self._open_keys: set[PublicKey] = set()
        self._unleased: set[IPv4Address] = set()  # to be asked about a second time
        self._asked_twice: set[IPv4Address] = set()

    def take(self) -> Questions:
        """What to ask now. A question that is open is asked again only after its answer, so there
        are never more questions under way than things to ask about."""
        if not (self._due_leases or self._due_data or self._due_hosts or self._due_keys):
            return _NOTHING
        asked = Questions(
            frozenset(self._due_leases - self._open_leases),
            frozenset(self._due_data - self._open_data),
            frozenset(self._due_hosts - self._open_hosts),
            frozenset(self._due_keys - self._open_keys),
        )
        self._due_leases -= asked.leases
        self._due_data -= asked.data
        self._open_leases |= asked.leases
        self._open_data |= asked.data
        self._due_hosts -= asked.hosts
        self._open_hosts |= asked.hosts
        self._due_keys -= asked.keys
        self._open_keys |= asked.keys
        return asked

    def again(self) -> None:
        """Answers may have been lost with a connection."""
        self._due_leases |= self._open_leases
        self._due_data |= self._open_data
        self._due_hosts |= self._open_hosts
        self._due_keys |= self._open_keys
        self._open_keys.clear()
        self._open_hosts.clear()
        self._open_leases.clear()
        self._open_data.clear()

    # --- leases ---

    def want_lease(self, overlay: IPv4Address) -> None:
        """A host claims it, or it has changed hands."""
        self._due_leases.add(overlay)
        _discard(self._asked_twice, overlay)

    @property
    def unleased(self) -> bool:
        """Whether ``want_unleased`` has something to ask."""
        return bool(self._unleased)

    def want_unleased(self) -> None:
        """Ask a second time about addresses that nobody held."""
        self._due_leases |= self._unleased
        self._asked_twice |= self._unleased
        self._unleased.clear()

    def lease_read(self, overlay: IPv4Address, host_id: str | None) -> None:
        _discard(self._open_leases, overlay)
        self._owners[overlay] = host_id
        if host_id is not None:
            _discard(self._asked_twice, overlay)
            _discard(self._unleased, overlay)
        elif overlay not in self._asked_twice and len(self._unleased) < MAX_UNLEASED:
            self._unleased.add(overlay)

    def remember_leases(self, owners: Mapping[IPv4Address, str]) -> None:
        """As they were read before a restart."""
        self._owners.update(owners)

    def forget_lease(self, overlay: IPv4Address) -> None:
        """Nobody claims the address any more."""
        self._owners.pop(overlay, None)
        self._due_leases.discard(overlay)
        _discard(self._open_leases, overlay)
        _discard(self._unleased, overlay)
        _discard(self._asked_twice, overlay)

    def holds_lease(self, member: Member) -> bool | None:
        """Whether its overlay address is leased to its id; None: not read yet."""
        owner = self._owners.get(member.overlay, _UNREAD)
        return None if owner is _UNREAD else owner == member.id

    # --- further addresses ---

    def want_data(self, names: Iterable[str]) -> None:
        self._due_data.update(names)

    def asks_data(self, name: str) -> bool:
        return name in self._due_data or name in self._open_data

    def data_read(self, name: str) -> None:
        _discard(self._open_data, name)

    def forget_data(self, name: str) -> None:
        """The entry is gone, or its data are known."""
        self._due_data.discard(name)
        _discard(self._open_data, name)

    # --- hosts' records ---

    def want_host(self, host_id: str) -> None:
        self._due_hosts.add(host_id)

    def put_off_host(self, host_id: str) -> None:
        """It need not be read yet, if that was not handed out."""
        self._due_hosts.discard(host_id)

    def is_due(self, host_id: str) -> bool:
        """Whether its record is to be read, and that was not handed out yet."""
        return host_id in self._due_hosts

    def opened_host(self, host_id: str) -> bool:
        """Whether its record is being read."""
        return host_id in self._open_hosts

    def asks_host(self, host_id: str) -> bool:
        return host_id in self._due_hosts or host_id in self._open_hosts

    def host_read(self, host_id: str) -> None:
        _discard(self._open_hosts, host_id)

    def forget_host(self, host_id: str) -> None:
        """Nobody has this id any more."""
        self._due_hosts.discard(host_id)
        _discard(self._open_hosts, host_id)

    # --- whose keys are ---

    def want_key(self, key: PublicKey) -> None:
        """Two records say it."""
        self._due_keys.add(key)

    def key_read(self, key: PublicKey) -> None:
        _discard(self._open_keys, key)


def _discard(held: set[H], what: H) -> None:
    """An emptied set keeps its table, 2 MiB after 16,000 members, until it is cleared."""
    if not held:
        return  # most of them hold nothing, and an address takes its time to be looked up
    held.discard(what)
    if not held:
        held.clear()
