"""Members as elements: what the kernel should hold, what it holds, and the difference. Pure.

It promises that a change costs the same with ten members and with sixteen thousand: desired and
kernel state are kept apart, and it remembers which keys may differ, so a change touches nothing
else. It believes of the kernel only what was read back or what the kernel accepted.

Must never do: look at all members because one has changed, or let what becomes of a key depend on
the order in which it was wanted.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, KeysView, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from neti.ruleset.enforce import OFF, Enforcement
from neti.ruleset.objects import (
    ORDERED,
    REFUSED,
    REVOKED_BY,
    SPARED,
    AddElements,
    Command,
    DeleteElements,
    KernelState,
    set_timeouts,
)
from neti.ruleset.openings import Until
from neti.ruleset.set_names import GroupSet, SetName


class Elements:
    """Desired and kernel elements of the ordered sets, and the keys in which they may differ.

    A key may be wanted several times (two members behind one public address); it goes with the
    last wish for it. If wishes differ in their value, the smallest counts, so that the outcome does
    not depend on the order in which they came. Not thread-safe: the agent's loop owns it.
    """

    def __init__(self, *, revoke_seconds: int) -> None:
        self.revoke_seconds = revoke_seconds
        self._enforcement = OFF
        self.openings: Until = {}  # what is open for a time
        self._never_revoke: frozenset[str] = frozenset()
        self._wishes: dict[SetName, dict[str, Counter[str] | str]] = {s: {} for s in ORDERED}
        self._kernel: dict[SetName, dict[str, str]] = {s: {} for s in ORDERED}
        self._revoked: dict[SetName, set[str]] = {"revoked4": set(), "revoked6": set()}
        self._dirty: dict[SetName, set[str]] = {s: set() for s in ORDERED}
        self._missing: frozenset[SetName] = frozenset()  # sets that the kernel's table has not
        self._groups: tuple[GroupSet, ...] = ()

    @property
    def sets(self) -> tuple[SetName, ...]:
        """Those whose elements are wished for here. Of others the kernel may have some more: groups
        that its present rules look at."""
        return (*ORDERED, *self._groups)

    def look_at(self, groups: Iterable[GroupSet]) -> None:
        """The sets of groups that the rules look at from now on. Whoever is wished for in others
        must have been unwished before."""
        named = tuple(sorted(groups))
        for gone in set(self._groups) - set(named):
            for held in (self._wishes, self._kernel, self._dirty):
                del held[gone]
        for new in set(named) - set(self._groups):
            self._wishes[new], self._kernel[new], self._dirty[new] = {}, {}, set()
            self._missing |= {new}  # until the kernel was read
        self._groups = named

    # --- wishes ---

    def want(self, where: SetName, key: str, value: str = "") -> None:
        wishes = self._wishes[where]
        held = wishes.get(key)
        if held is None:
            wishes[key] = value  # nearly every key is wanted once: no Counter for those
        elif isinstance(held, str):
            wishes[key] = Counter((held, value))
        else:
            held[value] += 1
        self._dirty[where].add(key)

    def unwant(self, where: SetName, key: str, value: str = "") -> None:
        """Undo one ``want`` with exactly these arguments."""
        wishes = self._wishes[where]
        held = wishes[key]
        if isinstance(held, str):
            if held != value:
                raise KeyError(value)
            del wishes[key]
        else:
            if held[value] == 1:  # a Counter keeps a key that was counted down to nothing
                del held[value]
            elif held[value] > 1:
                held[value] -= 1
            else:
                raise KeyError(value)
            if held.total() == 1:
                wishes[key] = next(iter(held))
        self._dirty[where].add(key)

    def enforce(self, enforcement: Enforcement) -> None:
        """What map ``enforce`` should hold. Compared with the kernel only where that was read."""
        self._enforcement = enforcement

    @property
    def enforcement(self) -> Enforcement:
        return self._enforcement

    def spare(self, addresses: frozenset[str]) -> None:
        """These are never to be removed sources, nor refused where encryption is required; see
        ``reach.never_revoked``."""
        for where in REFUSED:
            others = self._never_revoke ^ addresses
            self._dirty[where] |= others & self._wishes[where].keys()
        self._never_revoke = addresses

    def _spared(self, where: SetName, key: str) -> bool:
        if where not in REFUSED:
            return False
        held = self._wishes[where].get(key, "")
        return key in self._never_revoke or SPARED in ((held,) if isinstance(held, str) else held)

    def _wanted(self, where: SetName, key: str) -> str | None:
        """Its value; None: it is not wanted."""
        held = self._wishes[where].get(key)
        return None if held is None or self._spared(where, key) else _shown(held)

    @property
    def never_revoke(self) -> frozenset[str]:
        return self._never_revoke

    def wants(self, where: SetName, key: str) -> bool:
        return self._wanted(where, key) is not None

    def leads(self, overlay: IPv4Address) -> IPv4Address | None:
        """Where the overlay address should lead."""
        held = self._wishes["overlay"].get(str(overlay))
        return None if held is None else IPv4Address(_shown(held))

    def goes_on(self, to: IPv4Address, answers: IPv4Address | None, answered: bool) -> bool:
        """Whether a connection to an overlay address may keep the road on which it began.
        ``answers``: where they come from; an address other than ``to`` is what it was translated
        to. One through the tunnel that had no answer begins anew: it may be one-way and lead into a
        dead tunnel, or have begun while the table was away and wait at another address."""
        if answers != to:
            return answers is not None and answers == self.leads(to)
        return answered and self.wants("tunnel_peers", str(to))

    def wanted(self, where: SetName) -> KeysView[str]:
        """The keys of ``desired``."""
        return self._wishes[where].keys()

    def desired(self, where: SetName) -> dict[str, str]:
        return {
            key: _shown(held)
            for key, held in self._wishes[where].items()
            if not self._spared(where, key)
        }

    # --- the kernel's side ---

    def kernel_is(self, state: KernelState) -> None:
        """Believe what was read back: from now on, whatever differs from it is pending."""
        for where in self.sets:
            held = self._kernel[where] = dict(state.elements.get(where, {}))
            wishes = self._wishes[where]
            self._dirty[where] = held.keys() ^ wishes.keys()
            self._dirty[where] |= {
                key for key, wish in wishes.items() if key in held and held[key] != _shown(wish)
            }
            if where in REFUSED:
                self._dirty[where] |= {key for key in held if self._spared(where, key)}
        for revoked in self._revoked:
            self._revoked[revoked] = set(state.timed.get(revoked, {}))
        self._missing = state.missing.union(set(self._groups) - state.elements.keys())

    def believe(self, other: "Elements") -> None:
        """Believe of the kernel what ``other`` does; its wishes are not taken over."""
        self._enforcement = other._enforcement
        self.openings = other.openings
        self._never_revoke = other._never_revoke
        held = {revoked: dict.fromkeys(keys, 0) for revoked, keys in other._revoked.items()}
        self.kernel_is(
            KernelState(structure=None, elements=other._kernel, timed=held, missing=other._missing)
        )

    def differences(self, state: KernelState) -> dict[SetName, int]:
        """How many keys of each set are not as we believed them to be in the kernel."""
        counts = {}
        for where in self.sets:
            held, believed = state.elements.get(where, {}), self._kernel[where]
            if held != believed:
                counts[where] = len(dict(held.items() ^ believed.items()))
        return counts

    @property
    def kernel(self) -> Mapping[SetName, Mapping[str, str]]:
        return self._kernel

    @property
    def revoked(self) -> Mapping[SetName, frozenset[str]]:
        return {name: frozenset(keys) for name, keys in self._revoked.items()}

    @property
    def pending(self) -> bool:
        if not any(self._dirty.values()):
            return False  # as a rule, and this is asked several times in each turn
        return any(keys for where, keys in self._dirty.items() if where not in self._missing)

    def changes(self) -> "Changes":
        """What must be done to the kernel. The cost depends only on how many keys may differ."""
        changes = Changes()
        for where in self.sets:
            if where in self._missing:
                continue  # comes with a new table
            kernel = self._kernel[where]
            for key in tuple(self._dirty[where]):
                held, wanted = kernel.get(key), self._wanted(where, key)
                if held == wanted:
                    self._dirty[where].discard(key)
                    continue
                if held is not None:
                    changes.remove(where, key)
                if wanted is not None:
                    changes.add(where, key, wanted)
            self._shrink(where)
        self._revocations(changes)
        return changes

    def _differs(self, where: SetName, key: str) -> bool:
        return self._wanted(where, key) != self._kernel[where].get(key)

    def _shrink(self, where: SetName) -> None:
        """A Python set that was once large keeps its large table, and every iteration walks all of
        it: after a start with 16,000 members that costs each change 0.2 ms."""
        if not self._dirty[where]:
            self._dirty[where].clear()

    def _revocations(self, changes: "Changes") -> None:
        for peers, revoked in REVOKED_BY.items():
            added = changes.added.get(peers, {})
            for key in changes.removed.get(peers, ()):
                if key not in added and key not in self.never_revoke:
                    changes.revoke(revoked, key, self.revoke_seconds)
                    if key in self._revoked[revoked]:
                        changes.again(revoked, key)
            held = self._revoked[revoked]
            for key in held & (added.keys() | self.never_revoke):
                changes.pardon(revoked, key)

    def applied(self, changes: "Changes") -> None:
        """The kernel took ``changes``; keys that were not among them may still differ."""
        for where, keys in changes.removed.items():
            for key in keys:
                self._kernel[where].pop(key, None)
        for where, items in changes.added.items():
            self._kernel[where].update(items)
        for where in changes.removed.keys() | changes.added.keys():
            touched = (*changes.removed.get(where, ()), *changes.added.get(where, ()))
            self._dirty[where].difference_update(
                key for key in touched if not self._differs(where, key)
            )
            self._shrink(where)
        for revoked, held in self._revoked.items():
            held.update(changes.revoked.get(revoked, ()))
            held.difference_update(changes.pardoned.get(revoked, ()))

    def forget_revoked(self, where: SetName, keys: Iterable[str]) -> None:
        """These are no longer in the kernel's set of removed sources."""
        self._revoked[where].difference_update(keys)


def _shown(held: Counter[str] | str) -> str:
    return held if isinstance(held, str) else min(held)


@dataclass(slots=True)
class Changes:
    """Element changes of one transaction."""

    removed: dict[SetName, list[str]] = field(default_factory=dict)
    added: dict[SetName, dict[str, str]] = field(default_factory=dict)
    revoked: dict[SetName, dict[str, int]] = field(default_factory=dict)
    pardoned: dict[SetName, list[str]] = field(default_factory=dict)
    # Those among the revoked that the kernel holds already, with an older time-out.
    renewed: dict[SetName, set[str]] = field(default_factory=dict)

    def remove(self, where: SetName, key: str) -> None:
        self.removed.setdefault(where, []).append(key)

    def add(self, where: SetName, key: str, value: str) -> None:
        self.added.setdefault(where, {})[key] = value

    def revoke(self, where: SetName, key: str, seconds: int) -> None:
        self.revoked.setdefault(where, {})[key] = seconds

    def again(self, where: SetName, key: str) -> None:
        self.renewed.setdefault(where, set()).add(key)

    def pardon(self, where: SetName, key: str) -> None:
        self.pardoned.setdefault(where, []).append(key)

    def count(self) -> int:
        return sum(map(len, self.removed.values())) + sum(map(len, self.added.values()))

    def commands(self) -> Iterator[Command]:
        """In the order that the kernel needs: deletions first, because adding a key again with
        another value fails with ``File exists``. An address becomes a removed source before it
        stops being a peer."""
        for where, timeouts in self.revoked.items():
            yield from set_timeouts(where, timeouts, self.renewed.get(where, ()))
        for where, keys in self.removed.items():
            yield DeleteElements(where, tuple(keys))
        for where, items in self.added.items():
            yield AddElements(where, items)
        for where, keys in self.pardoned.items():
            yield DeleteElements(where, tuple(keys))
