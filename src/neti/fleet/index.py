"""Who claims what: an index from a key (an address, an id) to the names that claim it. Pure.

With sixteen thousand members nearly every key has one claimant, but all of them may claim the
public address of one NAT. Both are cheap here, and a key that nobody claims takes no memory.
"""

from collections.abc import Collection, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Claims(Generic[K]):
    def __init__(self) -> None:
        self._claimants: dict[K, str | dict[str, None]] = {}  # a bare name, or two and more
        self._shared: set[K] = set()

    def of(self, key: K) -> Collection[str]:
        """The names that claim ``key``, in the order in which they came. Copy it before you add or
        discard any."""
        held = self._claimants.get(key, ())
        return (held,) if isinstance(held, str) else held

    @property
    def shared(self) -> frozenset[K]:
        """Keys with more than one claimant."""
        return frozenset(self._shared)

    def add(self, key: K, name: str) -> None:
        held = self._claimants.setdefault(key, name)
        if isinstance(held, dict):
            held[name] = None
        elif held != name:
            self._claimants[key] = {held: None, name: None}
            self._shared.add(key)

    def discard(self, key: K, name: str) -> None:
        held = self._claimants.get(key)
        if held == name:
            del self._claimants[key]
        elif isinstance(held, dict):
            held.pop(name, None)
            if len(held) == 1:
                (self._claimants[key],) = held
                self._shared.discard(key)

    def __len__(self) -> int:
        return len(self._claimants)
