"""Desired state against kernel state: find the difference, apply it in one transaction.

``plan`` decides and is pure; ``resync`` reads back first, ``commit`` trusts what was read before
and sends only what is pending. A structure is known to be untouched when the kernel lists it
exactly as it did right after we wrote it; nft's spelling of a rule is its own and is not parsed.

Must never do: apply half of a difference, or refresh what ends by the kernel's own clock.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, Protocol

from neti.agent import timed
from neti.agent.timed import Mended, TimedElements, peers_of
from neti.clock import Clock, SystemClock
from neti.dataplane import Dataplane
from neti.elements import Changes, Elements
from neti.enforcement import PERMANENT, Enforcement, begin_trial, confirm_trial, enforce_commands
from neti.errors import DataplaneError
from neti.ruleset import FAMILY_TABLE, TIMED, KernelState, SetName, Structure, Transaction
from neti.shadow import Sighting
from neti.table import replacement, rewrite_chains, set_definitions

# TCP keepalive's default of two hours and its nine probes (tcp(7)): whoever has not spoken in that
# time had no connection to keep.
GRACE_SECONDS: Final = 8100
# nf_conntrack_tcp_timeout_established, 5 days: no tracked connection outlives it unused.
REVOKE_SECONDS: Final = 432_000


@dataclass(frozen=True, slots=True)
class SeenStructure:
    """How the kernel listed the structure that was written from the text with this digest."""

    digest: str
    listing: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, and in what sense: ``structure`` is 'as is', 'new', 'chains' or 'all'."""

    transaction: Transaction
    structure: str
    changes: Changes


@dataclass(frozen=True, slots=True)
class Resync:
    """What was found and done. ``drift``: what the kernel held otherwise than it was left, in
    words; empty: nothing, or nobody knew how it was left."""

    planned: Plan
    found: KernelState
    drift: str


class Connections(Protocol):
    """See ``neti.dataplane.conntrack.Conntrack``."""

    def end_connections_to(self, destinations: list[IPv4Address]) -> int: ...


def digest(structure: Structure) -> str:
    return hashlib.sha256(structure.text().encode()).hexdigest()


def plan(
    structure: Structure, elements: Elements, kernel: KernelState, seen: SeenStructure | None
) -> Plan:
    """The transaction that makes ``kernel`` hold ``structure`` and ``elements``.

    ``elements`` must believe in ``kernel`` (``kernel_is``).
    """
    changes = elements.changes()
    if kernel.structure is None:
        return Plan(_whole(structure, elements, kernel, changes), "new", changes)
    arming = enforce_commands(elements.enforcement, kernel.enforce)
    known = seen is not None and seen.digest == digest(structure)
    if known and seen is not None and kernel.structure == seen.listing:
        return Plan(Transaction((*changes.commands(), *arming)), "as is", changes)
    if seen is not None and set_definitions(kernel.structure) == set_definitions(seen.listing):
        commands = (*rewrite_chains(structure, kernel), *changes.commands(), *arming)
        return Plan(Transaction(commands), "chains", changes)
    return Plan(_whole(structure, elements, kernel, changes), "all", changes)


def _whole(
    structure: Structure, elements: Elements, kernel: KernelState, changes: Changes
) -> Transaction:
    anew = replacement(structure, elements, kernel, grace_seconds=GRACE_SECONDS)
    revoked = Changes(revoked=changes.revoked)
    return Transaction((*anew.commands, *revoked.commands()))


def _with_timed(planned: Plan, elements: Elements, mended: list[Mended]) -> Plan:
    """The same, and the sets that end by the kernel's clock put right."""
    commands = list(planned.transaction.commands)
    changes = planned.changes
    for where, back, gone in mended:
        commands += timed.commands(where, back, gone)
        if where != "grace":
            changes.revoked.setdefault(where, {}).update(back)
            elements.forget_revoked(where, gone)
    return Plan(Transaction(tuple(commands)), planned.structure, changes)


class Reconciler:
    """Owns the kernel's side of one agent. Not thread-safe: the agent's loop owns it."""

    def __init__(
        self,
        dataplane: Dataplane,
        connections: Connections,
        seen: SeenStructure | None,
        clock: Clock | None = None,
    ) -> None:
        self._dataplane = dataplane
        self._connections = connections
        self._timed = TimedElements(clock or SystemClock())
        self._ended: set[str] = set()  # overlay addresses that lead nowhere, not yet looked at
        self.seen = seen
        self._left: Enforcement | None = None  # as this process left it; None: not yet
        # The shadow's sets go with the table: called right before, and when they have gone.
        self.before_emptying: Callable[[], None] = lambda: None
        self.emptied: Callable[[], None] = lambda: None

    def sightings(self) -> list[Sighting]:
        return self._dataplane.sightings()

    def read(self) -> KernelState:
        return self._dataplane.read()

    def resync(self, structure: Structure, elements: Elements) -> Resync:
        """Read back, and make everything as it should be. Raises DataplaneError."""
        kernel = self._dataplane.read()
        mended = self._mended(kernel, elements)
        drift = self._drift(kernel, elements, mended)
        elements.kernel_is(kernel)
        planned = _with_timed(plan(structure, elements, kernel, self.seen), elements, mended)
        anew = planned.structure in ("new", "all")
        if anew:
            self.before_emptying()
        self._dataplane.apply(planned.transaction)
        if anew:
            self.emptied()
            elements.kernel_is(self._dataplane.read())
        else:
            elements.applied(planned.changes)
        if planned.structure != "as is":
            listing = self._dataplane.structure()
            if listing is None:
                raise DataplaneError("the table was removed by somebody right after it was made")
            self.seen = SeenStructure(digest(structure), listing)
        self._timed.seen({where: self._dataplane.timed(where) for where in TIMED})
        self._end_connections(planned.changes)
        self._left = elements.enforcement
        return Resync(planned, kernel, drift)

    def _drift(self, kernel: KernelState, elements: Elements, mended: list[Mended]) -> str:
        if self._left is None or self.seen is None:
            return ""
        if kernel.structure is None:
            return "the table was gone"
        found = [] if kernel.structure == self.seen.listing else ["rules, sets or flags differed"]
        changed = elements.differences(kernel)
        found += [f"{count} in {where}" for where, count in changed.items()]
        found += [f"{len(back) + len(gone)} in {where}" for where, back, gone in mended]
        if self._left.permanent and not kernel.armed_for_good:
            found.append("what map enforce holds was taken out")
        elif not self._left and kernel.enforce:
            found.append("something was put into map enforce")
        return ", ".join(found)

    def untouched(self) -> bool:
        """A cheap look: whether sets, chains and flags are as they were left."""
        return self.seen is None or self._dataplane.structure() == self.seen.listing

    def begin_trial(self, elements: Elements) -> None:
        """Arm the kernel as ``elements.enforcement`` says, counted from now."""
        held = self._dataplane.read().enforce
        self._dataplane.apply(Transaction(begin_trial(elements.enforcement, held)))
        self._left = elements.enforcement

    def confirm_trial(self) -> None:
        """Take the time-out off. DataplaneError when the trial is over: the kernel ended it."""
        self._dataplane.apply(Transaction(confirm_trial()))
        self._left = PERMANENT

    def counters(self) -> dict[str, int]:
        return self._dataplane.counters()

    def commit(self, elements: Elements) -> Changes:
        """Apply what is pending, as one transaction that costs what it changes."""
        changes = elements.changes()
        self._dataplane.apply(Transaction(tuple(changes.commands())))
        elements.applied(changes)
        self._timed.applied(changes)
        self._end_connections(changes)
        return changes

    def _mended(self, kernel: KernelState, elements: Elements) -> list[Mended]:
        """What others did to the sets that end by the kernel's clock, and is to be undone."""

        def wanted(where: SetName, key: str) -> bool:
            peers = peers_of(where)
            return peers is not None and elements.wants(peers, key)

        return list(self._timed.mend(kernel, wanted))

    def pardon(self, elements: Elements, where: SetName, keys: list[str]) -> None:
        """These removed sources have no connections left: forget them."""
        if keys:
            pardoned = Changes(pardoned={where: keys})
            self._dataplane.apply(Transaction(tuple(pardoned.commands())))
            self._timed.applied(pardoned)
            elements.forget_revoked(where, keys)

    def remove(self) -> None:
        """Take out all that is ours from nftables, and end the connections that it translated:
        the kernel would go on translating them without any rule."""
        kernel = self._dataplane.read()
        if kernel.structure is not None:
            self.before_emptying()
            self._dataplane.apply(Transaction((f"delete table {FAMILY_TABLE}",)))
            self.emptied()
            self._ended.update(kernel.elements.get("overlay", {}))
        self.seen = None
        self._left = None
        if self._ended:
            self.end_connections()

    def _end_connections(self, changes: Changes) -> None:
        """Connections to an overlay address that now leads elsewhere, or nowhere, end: they would
        keep the old translation for ever. Joins never get here."""
        gone = changes.removed.get("overlay", ())
        leads = changes.added.get("overlay", {})
        # Where an address leads elsewhere now, its sockets must follow at once. One that leads
        # nowhere can wait until more have come together (``end_connections``): the look costs the
        # kernel a walk over its whole table, 3 ms, however few connections there are.
        self._ended.update(key for key in gone if key not in leads)
        moved = [key for key in leads if key in gone or key in self._ended]
        if moved:
            self._ended.difference_update(moved)
            self._connections.end_connections_to([IPv4Address(key) for key in moved])

    @property
    def connections_to_end(self) -> bool:
        return bool(self._ended)

    def end_connections(self) -> None:
        """End the connections to all overlay addresses that lead nowhere since the last call."""
        ended, self._ended = self._ended, set()
        self._connections.end_connections_to([IPv4Address(key) for key in ended])
