"""The kernel's side of one agent: read back, plan, apply in one transaction.

``resync`` reads back first; ``commit`` trusts what was read before and sends only what is pending.
``neti.ruleset.plan`` decides what to do.

Every command is strict (see ``neti.ruleset.objects``). If the kernel says that it is not as it was
read, it is read again and everything is decided anew, a few times at most.

Must never do: apply half of a difference. The one exception is deliberate: if only the rules are
refused, members and stage are brought in all the same.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, Protocol

from neti.clock import Clock, SystemClock
from neti.dataplane import Dataplane
from neti.dataplane.conntrack import GoesOn
from neti.errors import (
    DataplaneError,
    DataplaneUnavailable,
    KernelMoved,
    StructureRefused,
    ToldOtherwise,
)
from neti.ruleset import openings
from neti.ruleset.delta import Changes, Elements
from neti.ruleset.enforce import (
    OFF,
    Arming,
    Enforcement,
    arming,
    begin_trial,
    confirm_trial,
    confirmed_state,
)
from neti.ruleset.objects import (
    FOREIGN,
    RELAXED_MARK,
    TIMED,
    DeleteElements,
    KernelState,
    Structure,
    Transaction,
)
from neti.ruleset.openings import Left, Until
from neti.ruleset.plan import (
    GRACE_SECONDS,
    Plan,
    Rewrite,
    SeenStructure,
    digest,
    drift,
    mend,
    plan,
)
from neti.ruleset.set_names import SetName
from neti.ruleset.timed import Mended, TimedElements, peers_of
from neti.stage.leftovers import Call
from neti.stage.shadow import Sighting

# How often to read the kernel and try, since an element can end, or another program can change the
# table, between reading and applying.
_ATTEMPTS: Final = 4
# Where an element says by which road, or to which real address, an overlay address leads.
_LEADING: Final[tuple[SetName, ...]] = ("overlay", "tunneled", "tunnel_peers")


@dataclass(frozen=True, slots=True)
class Resync:
    """What was found and done. ``drift``: how the kernel differed from how it was left, one
    sentence each; empty: it did not, or nobody knows how it was left."""

    planned: Plan
    found: KernelState
    drift: tuple[str, ...]


class Connections(Protocol):
    """See ``neti.dataplane.conntrack.Conntrack``."""

    def end_connections_to(
        self, destinations: list[IPv4Address], goes_on: GoesOn | None = None
    ) -> int: ...


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
        self._clock = clock or SystemClock()
        self._timed = TimedElements(self._clock)
        self._ended: set[str] = set()  # overlay addresses that lead nowhere, not yet looked at
        self.seen = seen
        self._grace_seconds = GRACE_SECONDS
        self._left: Enforcement | None = None  # what this process left in force; None: nothing yet
        self._left_open: Until = {}  # likewise what it left open for a time
        self._emptying: list[tuple[Callable[[], None], Callable[[], None]]] = []

    def on_emptying(self, before: Callable[[], None], done: Callable[[], None]) -> None:
        """What the rules recorded goes with the table: ``before`` is called right before that,
        ``done`` right after."""
        self._emptying.append((before, done))

    def _before_emptying(self) -> None:
        for before, _ in self._emptying:
            before()

    def _emptied(self) -> None:
        for _, done in self._emptying:
            done()

    def expect_no_older_connections(self) -> None:
        """A new table gets no grace time: no connection can be older than it."""
        self._grace_seconds = 0

    def sightings(self) -> list[Sighting]:
        return self._dataplane.sightings()

    def unasked(self) -> list[Sighting]:
        return self._dataplane.unasked()

    def leftovers(self) -> list[Call]:
        return self._dataplane.leftovers()

    def read(self) -> KernelState:
        return self._dataplane.read()

    def resync(self, structure: Structure, elements: Elements) -> Resync:
        """Read back, and make everything as it should be. Raises DataplaneError; StructureRefused
        if only the rules were refused; ToldOtherwise if an operator's word stands in the kernel."""
        done = self._again(lambda: self._resync(structure, elements))
        if elements.enforcement.relaxed and not self.relaxed():
            self._dataplane.disarm()  # the mark was lost with the table: leave it again
        return done

    def _again(self, act: Callable[[], Resync]) -> Resync:
        for _ in range(_ATTEMPTS - 1):
            try:
                return act()
            except KernelMoved:
                continue
        return act()

    def _resync(self, structure: Structure, elements: Elements) -> Resync:
        began = self._clock.monotonic()
        kernel = self._read(elements)
        mended = self._mended(kernel, elements)
        drifted = self._drift(kernel, elements, mended, began)
        elements.kernel_is(kernel)
        try:
            planned = plan(
                structure,
                elements,
                kernel,
                self.seen,
                definitions=self._dataplane.definitions,
                mended=mended,
                grace_seconds=self._grace_seconds,
                openings=self._open(elements.openings),
            )
            if planned.structure.whole:
                self._before_emptying()
            self._dataplane.apply(planned.transaction)
        except (KernelMoved, DataplaneUnavailable):
            raise
        except DataplaneError as error:
            self._members_only(elements, kernel, mended, error)
            raise StructureRefused(str(error)) from error
        self._took(planned, structure, elements)
        return Resync(planned, kernel, drifted)

    def _read(self, elements: Elements) -> KernelState:
        """Raises ToldOtherwise. A word that is left in the kernel after this is not written over
        either: a table is replaced only if it is still the one that was read and still drops what
        it did, and is made only where there is none. One case is left: 'neti relax' on a map that
        another program had emptied already."""
        kernel = self._dataplane.read()
        if kernel.marked_down:
            raise ToldOtherwise("down")
        if kernel.relaxed_by_hand and elements.enforcement:
            raise ToldOtherwise("relaxed")
        return kernel

    def _took(self, planned: Plan, structure: Structure, elements: Elements) -> None:
        """The kernel has applied it."""
        if planned.structure.whole:
            self._emptied()
            elements.kernel_is(self._dataplane.read())
        else:
            elements.applied(planned.changes)
        if planned.structure is not Rewrite.NOTHING:
            listing = self._dataplane.structure()
            if listing is None:
                raise DataplaneError("the table was removed by somebody right after it was made")
            self.seen = SeenStructure(digest(structure), listing)
        self._settled(planned.changes, elements)

    def members_only(self, elements: Elements) -> None:
        """Members and stage into the table as it is, without a look at its rules."""
        kernel = self._read(elements)
        elements.kernel_is(kernel)
        self._members_only(elements, kernel, self._mended(kernel, elements), None)

    def _members_only(
        self,
        elements: Elements,
        kernel: KernelState,
        mended: list[Mended],
        error: DataplaneError | None,
    ) -> None:
        """What can be done if the rules are refused: members and stage as they should be, under the
        rules that are there. Those may be from a time without a way in, so a host that keeps nobody
        out is not armed under them."""
        if kernel.structure is None:
            return
        changes = elements.changes()
        mend(changes, mended)
        left = self._left
        new = elements.enforcement and not left and not kernel.drops
        armed = () if new else arming(elements.enforcement, kernel)
        opened = openings.commands(self._open(elements.openings), kernel)
        try:
            self._dataplane.apply(Transaction((*changes.commands(), *opened, *armed)))
        except KernelMoved:
            raise
        except DataplaneError as worse:
            raise (error or worse) from worse  # the first error says what is wrong
        elements.applied(changes)
        self._settled(changes, elements)
        if new:
            self._left = left

    def _settled(self, changes: Changes, elements: Elements) -> None:
        began = self._clock.monotonic()
        self._timed.seen({where: self._dataplane.timed(where) for where in TIMED}, began)
        self._end_connections(changes, elements)
        self._left, self._left_open = elements.enforcement, elements.openings
        self._none_for_longer(elements)

    def _open(self, until: Until) -> Left:
        """What is open for a time, by the whole seconds that it has left now."""
        return openings.left(until, self._clock.monotonic())

    def _none_for_longer(self, elements: Elements) -> None:
        """Nothing must stay open for longer because this process was stopped between reckoning and
        applying: this here too, so it looks again. Costs nothing where nothing is open."""
        for _ in range(_ATTEMPTS):
            timed = {where: self._dataplane.timed(where) for where in elements.openings}
            there: dict[SetName, dict[str, int]] = {k: held for k, held in timed.items() if held}
            held = KernelState(structure="", timed=there)
            wrong = tuple(openings.commands(self._open(elements.openings), held))
            if not wrong:
                return
            self._dataplane.apply(Transaction(wrong))

    def _drift(
        self, kernel: KernelState, elements: Elements, mended: list[Mended], began: float
    ) -> tuple[str, ...]:
        """``began``: CLOCK_MONOTONIC seconds at which the kernel began to be read."""
        if self._left is None or self.seen is None:
            return ()
        opened = openings.left(self._left_open, began), self._open(self._left_open)
        return drift(kernel, elements, mended, left=self._left, seen=self.seen, openings=opened)

    def untouched(self) -> bool:
        """A cheap look: whether sets, chains and flags are as they were left."""
        return self.seen is None or self._dataplane.structure() == self.seen.listing

    def judges(self, enforcement: Enforcement) -> bool:
        """A cheap look: whether the kernel drops what it should, by the rules as they were left."""
        if not self.untouched():
            return False
        held = KernelState(
            structure="",
            enforce=self._dataplane.enforce(),
            require=self._dataplane.require(),
            narrowed=self._dataplane.narrowed(),
        )
        return (
            (held.armed or not enforcement)
            and (held.requires or not enforcement.requires)
            and (held.narrows or not enforcement.narrow)
        )

    def disarm(self) -> None:
        """Stop dropping, whatever else of the table is refused or missing."""
        self._dataplane.disarm()
        self._left = OFF

    def drops(self) -> bool:
        """A cheap look: whether anybody is kept out, on trial or for good."""
        return any(left != FOREIGN for left in self._dataplane.enforce().values())

    def relaxed(self) -> bool:
        return RELAXED_MARK in self._dataplane.enforce()

    def mark_down(self) -> None:
        """See ``Dataplane``."""
        self._dataplane.mark_down()

    def marked_down(self) -> bool:
        return self._dataplane.marked_down()

    def unmark_down(self) -> None:
        """Take the mark away: the disk says it now."""
        if self._dataplane.marked_down():
            self._dataplane.remove()

    def begin_trial(self, elements: Elements) -> None:
        """Arm the kernel as ``elements.enforcement`` says, with the time-out counted from now."""
        for last in (False, True):
            held = self._dataplane.enforce(), self._dataplane.require(), self._dataplane.narrowed()
            commands = begin_trial(elements.enforcement, *held)
            try:
                self._dataplane.apply(Transaction(commands))
                break
            except KernelMoved:
                if last:
                    raise
        self._left = elements.enforcement

    def confirm_trial(
        self, elements: Elements, structure: Structure | None = None
    ) -> DataplaneError | None:
        """Take the time-outs off, and go over to ``structure`` in the same transaction, where the
        rules differ once it is confirmed. Raises DataplaneError, and then nothing is confirmed;
        KernelMoved if the kernel has ended the trial. Returns why what was confirmed could not be
        read back: the kernel is to be looked at again."""
        commands = confirm_trial(elements.enforcement)
        if not commands:
            raise DataplaneError("no trial is wished for any more")
        good = elements.enforcement.for_good()
        if structure is None:
            self._dataplane.apply(Transaction(commands))
            self._left = good
            return None
        before = elements.enforcement
        for attempt in range(_ATTEMPTS):
            try:
                elements.enforce(good)
                planned = self._confirm(commands, structure, elements)
                break
            except DataplaneError as error:
                elements.enforce(before)
                if attempt == _ATTEMPTS - 1 or not isinstance(error, KernelMoved):
                    raise
        self._left = good
        try:
            self._took(planned, structure, elements)
        except DataplaneError as error:
            return error
        return None

    def _confirm(
        self, commands: tuple[Arming, ...], structure: Structure, elements: Elements
    ) -> Plan:
        kernel = self._dataplane.read()
        elements.kernel_is(kernel)
        planned = plan(
            structure,
            elements,
            confirmed_state(elements.enforcement, kernel),
            self.seen,
            definitions=self._dataplane.definitions,
            mended=self._mended(kernel, elements),
            grace_seconds=self._grace_seconds,
            openings=self._open(elements.openings),
        )
        if planned.structure.whole:
            self._before_emptying()
        self._dataplane.apply(Transaction((*commands, *planned.transaction.commands)))
        return planned

    def counters(self) -> dict[str, int]:
        return self._dataplane.counters()

    def counted_bytes(self) -> dict[str, int]:
        return self._dataplane.counted_bytes()

    def commit(self, elements: Elements) -> Changes:
        """Apply what is pending, as one transaction that costs what it changes."""
        for attempt in range(_ATTEMPTS):
            changes = elements.changes()
            began = self._clock.monotonic()
            try:
                self._dataplane.apply(Transaction(tuple(changes.commands())))
                break
            except KernelMoved:
                kernel = self._dataplane.read()
                if kernel.structure is None or attempt == _ATTEMPTS - 1:
                    raise
                elements.kernel_is(kernel)
        elements.applied(changes)
        self._timed.applied(changes, began)
        self._end_connections(changes, elements)
        return changes

    def _mended(self, kernel: KernelState, elements: Elements) -> list[Mended]:
        """What others did to the sets whose elements end by the kernel's clock: to be undone."""

        def wanted(where: SetName, key: str) -> bool:
            peers = peers_of(where)
            return peers is not None and (
                elements.wants(peers, key) or key in elements.never_revoke
            )

        return list(self._timed.mend(kernel, wanted))

    def pardon(self, elements: Elements, where: SetName, keys: list[str]) -> None:
        """Forget these removed sources, which have no connections left."""
        if keys:
            held = self._dataplane.timed(where)  # some may have ended by the kernel's clock
            there = [key for key in keys if key in held]
            if there:
                self._dataplane.apply(Transaction((DeleteElements(where, tuple(there)),)))
            pardoned = Changes(pardoned={where: keys})
            self._timed.applied(pardoned, self._clock.monotonic())
            elements.forget_revoked(where, keys)

    def remove(self) -> None:
        """Take everything of ours out of nftables, and end the connections that it translated: the
        kernel would go on translating them without any rule."""
        self._before_emptying()
        leads: set[str] = set()
        with contextlib.suppress(DataplaneError):  # what cannot be read can still be taken out
            held = self._dataplane.read().elements
            leads = {key for where in _LEADING for key in held.get(where, ())}
        if self._dataplane.remove():
            self._emptied()
            self._ended.update(leads)
        self.seen = None
        self._left = None
        if self._ended:
            self.end_connections()

    def _end_connections(self, changes: Changes, elements: Elements) -> None:
        """End connections to an overlay address that now leads elsewhere, or nowhere: they would
        keep the old translation for ever. A member that joins never gets here. The road may change
        as well: a connection keeps the one on which it began as long as that is allowed."""
        lost = changes.removed.get("overlay", ())
        back = (key for where in _LEADING for key in changes.added.get(where, ()))
        # If an address leads elsewhere now, its sockets must follow at once. Those that lead
        # nowhere wait until more have come together (``end_connections``), because the kernel walks
        # its whole table of connections for a look: 3 ms, however few there are.
        moved = [
            key
            for key in dict.fromkeys((*lost, *(key for key in back if key in self._ended)))
            if elements.wants("overlay", key) or elements.wants("tunneled", key)
        ]
        self._ended.update(key for where in _LEADING for key in changes.removed.get(where, ()))
        if moved:
            self._ended.difference_update(moved)
            destinations = [IPv4Address(key) for key in moved]
            self._connections.end_connections_to(destinations, elements.goes_on)

    @property
    def connections_to_end(self) -> bool:
        return bool(self._ended)

    def end_connections(self, elements: Elements | None = None) -> None:
        """End the connections to all overlay addresses that lead nowhere since the last call, or by
        another road. ``elements``: None when the table is gone."""
        ended, self._ended = self._ended, set()
        goes_on = elements.goes_on if elements is not None else None
        self._connections.end_connections_to([IPv4Address(key) for key in ended], goes_on)
