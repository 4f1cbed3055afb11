"""Who claims a thing: an index from a key (an address, an id) to the names that claim it. Pure.

With sixteen thousand members nearly every key has one claimant, and a public address of a NAT may
have all of them; both are cheap here, and a key that nobody claims takes no memory.
"""

from collections.abc import Collection, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Claims(Generic[K]):
    def __init__(self) -> None:
        self._claimants: dict[K, str | set[str]] = {}  # a bare name, or two and more in a set
        self._shared: set[K] = set()

    def of(self, key: K) -> Collection[str]:
        """The names that claim ``key``; copy it before adding or discarding."""
        held = self._claimants.get(key, ())
        return (held,) if isinstance(held, str) else held

    @property
    def shared(self) -> frozenset[K]:
        """Keys with more than one claimant."""
        return frozenset(self._shared)

    def add(self, key: K, name: str) -> None:
        held = self._claimants.setdefault(key, name)
        if isinstance(held, set):
            held.add(name)
        elif held != name:
            self._claimants[key] = {held, name}
            self._shared.add(key)

    def discard(self, key: K, name: str) -> None:
        held = self._claimants.get(key)
        if held == name:
            del self._claimants[key]
        elif isinstance(held, set):
            held.discard(name)
            if len(held) == 1:
                self._claimants[key] = held.pop()
                self._shared.discard(key)

    def __len__(self) -> int:
        return len(self._claimants)
