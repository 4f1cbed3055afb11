"""This host's kernel, kept as it should be: small commits, full looks, drift, the network.

Must never do: write while ``down``, or repair in a fight as fast as the other program changes
things.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal

from neti import log
from neti.agent.conntrack import Tracking
from neti.agent.core import Core
from neti.agent.host_network import HostNetwork
from neti.agent.journal import Journal
from neti.agent.others import OtherPrograms
from neti.agent.roads import Roads
from neti.agent.tracked import Tracked
from neti.errors import DataplaneError, StructureRefused, ToldOtherwise
from neti.model.capabilities import CONTROL_GROUPS
from neti.model.groups import MemberPorts
from neti.monitoring.arrivals import Calls
from neti.ruleset.enforce import OFF
from neti.ruleset.objects import Structure
from neti.ruleset.policy import structure
from neti.ruleset.surroundings import Surroundings

_AUDIT_EVERY: Final = 60.0  # seconds between cheap looks at changes without an event
_FULL_AUDIT_EVERY: Final = 600.0
_ARRIVALS_EVERY: Final = 15.0


Found = Literal["disarmed", "relaxed", "down"]


class Kernel:
    """Not thread-safe: the loop's thread owns it. ``found``: a trial was found ended, or an
    operator's word was found only in the kernel."""

    def __init__(
        self, core: Core, journal: Journal, roads: Roads, found: Callable[[Found], None]
    ) -> None:
        self._core = core
        self._journal = journal
        self._roads = roads
        self._found = found
        self._surroundings: Surroundings | None = None
        self._commit_after = 0.0
        self._full_audit_at = 0.0
        self._rules_refused = False
        self._rules_stand = False  # the kernel has those that are wanted, as of the last look
        self._new_since_fresh = False  # the table is newer than what the registry told last
        self.network = HostNetwork(core.out.machine, core.problems)
        self.others = OtherPrograms(core)
        self.tracked = Tracked(core, self.failed)
        self.tracking = Tracking(core.out.conntrack_limit, core.problems)
        self.calls = Calls()
        self.applies = 0

    # --- wishes into the kernel ---

    @property
    def pending(self) -> bool:
        """Whether there is something to commit. Not while a full look is due: what was refused
        would be refused again, and the look commits everything. If only the rules were refused,
        members still come and go."""
        core = self._core
        awaited = "resync" in core.timers.due and not self._rules_refused
        return core.members.elements.pending and core.members.known and not awaited

    @property
    def containers(self) -> tuple[str, ...]:
        """Interfaces that are taken to be this machine's own containers'."""
        return self._surroundings.containers if self._surroundings is not None else ()

    @property
    def lacks(self) -> tuple[str, ...]:
        """Codes of model.capabilities: what this kernel cannot do, of what was asked. Empty as long
        as it was not asked."""
        seen = self._surroundings
        return (CONTROL_GROUPS.code,) if seen is not None and not seen.control_groups else ()

    def listen(self) -> None:
        """Put the ports with a listening socket into the kernel."""
        if self._core.down.asked:
            return
        self.network.listen(self._core.members.elements)
        self.commit()

    def commit_when_quiet(self) -> None:
        """The first change after a quiet interval goes at once; those that follow are gathered."""
        if self._core.now() >= self._commit_after:
            self.commit()
        else:
            self._core.timers.at("commit", self._commit_after)

    def commit(self) -> None:
        core = self._core
        if not self.pending or core.down.asked:
            return
        started = core.now()
        try:
            changes = core.out.reconciler.commit(core.members.elements)
        except DataplaneError as error:
            if self._rules_refused:
                # Most likely for the same reason, which is named already. The look that is due
                # takes everything along.
                self._rules_refused = False
                return
            self.failed(error)
            return
        self._commit_after = started + core.live.interval
        self.applies += 1
        core.measured.applied(started, core.now())
        log.info("applied", elements=changes.count(), seconds=core.now() - started)
        self._journal.write()

    def resync(self, reason: str) -> DataplaneError | None:
        """Read the kernel back and make everything right, the route included. Returns what was
        refused and will be tried again; None: nothing, or this host is down."""
        core = self._core
        if core.down.asked:
            return None
        # What is known must be wished for before the kernel is compared with it, because otherwise
        # members that were only just read again would be taken out for a moment.
        self._journal.take_changes()
        if self._told_down():
            return None
        self._obey_mark()
        core.stage.wish()
        core.openings.wish()
        started = core.now()
        try:
            around, drifted = self._look_around()
            wanted = self._wanted(around)
            self.tracking.raise_to(core.settings.conntrack_max)
            done = core.out.reconciler.resync(wanted, core.members.elements)
            self.network.route(core.settings, core.host)
        except ToldOtherwise as told:
            # Only now, since ``_told_down`` and ``_obey_mark`` looked: this process stood still.
            self._found(told.word)
            core.timers.retry("resync", core.now())
            return told
        except DataplaneError as error:
            self._rules_not_in(error)
            return error
        self._rules_refused, self._rules_stand = False, True
        core.timers.worked("resync")
        # What was asked for before is done. As long as it stood, members would wait for it.
        core.timers.due.pop("resync", None)
        core.problems.clear("kernel")
        core.problems.clear("drops")
        if done.planned.transaction:
            self.applies += 1
            core.measured.applied(started, core.now())
            log.info(
                "resynced",
                reason=reason,
                structure=done.planned.structure,
                elements=done.planned.changes.count(),
                seconds=core.now() - started,
            )
            self._commit_after = core.now() + core.live.interval
        self._roads.settled()
        self._roads.in_kernel()
        if drift := [*done.drift, *drifted, *filter(None, (self._roads.passing.loaded(),))]:
            self.others.repaired(", ".join(drift))
        self.others.settled()
        if done.planned.structure.whole:
            # Connections that began while the table was away, or under another one, are not
            # translated for as long as they last.
            self.tracked.end_stale()
            self._new_since_fresh = not core.in_step.fresh
        elif core.in_step.fresh and self._new_since_fresh:
            # Members that became known only now: on a first start, that is everybody.
            self.tracked.end_stale()
            self._new_since_fresh = False
        trial = core.stage.record.trial
        if trial is not None and not trial.is_in(done.found):
            self._found("disarmed")
        self.remember()
        self._journal.write()
        return None

    def rules(self, ports: MemberPorts) -> Structure:
        """As they are once these are in force. Only after a look at the network."""
        assert self._surroundings is not None
        return structure(self._core.settings, replace(self._surroundings, member_ports=ports))

    def goes_by(self, ports: MemberPorts) -> None:
        """It has turned to these ``rules``."""
        assert self._surroundings is not None
        self._surroundings = replace(self._surroundings, member_ports=ports)
        self._journal.take_changes()
        self._core.members.admit_by(ports)
        self.remember()

    def _wanted(self, around: Surroundings) -> Structure:
        """The rules, and in the elements what they look at. Raises StructureRefused."""
        core, elements = self._core, self._core.members.elements
        core.members.admit_by(around.member_ports)
        self.network.note(elements, core.host, core.out.reserved)
        try:
            return structure(core.settings, around)
        except DataplaneError as error:
            core.out.reconciler.members_only(elements)
            raise StructureRefused(str(error)) from error

    def _look_around(self, *, cheaply: bool = False) -> tuple[Surroundings, list[str]]:
        """Links, routes and other tables; and the encrypted road, which is put right. Returns how
        that was not as it was left. ``cheaply``: without its peers. Raises DataplaneError."""
        settings, host = self._core.settings, self._core.host
        around, mtu = self.network.look(settings, host), self.network.mtu(host)
        core = self._core
        around = replace(around, member_ports=core.ports_in_force, openings=core.openings.lengths)
        around, drift = self._roads.prepare(around, mtu, cheaply=cheaply)
        self._surroundings = around
        return around, list(filter(None, (drift,)))

    def _forward(self) -> list[str]:
        """Returns how that was not as it was left."""
        return list(filter(None, (self._roads.passing.forward(),)))

    def look_at_roads(self) -> None:
        """The timer "roads"."""
        if (drift := self._roads.look()) and not self._core.down.asked:
            self.others.repaired(drift)

    def bring_rules_in(self) -> None:
        """Before anybody is kept out. Under rules from before there may be no way in. Raises
        DataplaneError."""
        if not self._rules_stand and (refused := self.resync("a trial begins")) is not None:
            raise refused

    def _told_down(self) -> bool:
        """Whether ``neti down`` took the table out while this process stood still, and only the
        kernel says so."""
        with contextlib.suppress(DataplaneError):
            if self._core.out.reconciler.marked_down():
                self._found("down")
        return self._core.down.now

    def _obey_mark(self) -> None:
        """Follow ``neti relax`` if it emptied the map while this process stood still, and only the
        kernel says so."""
        core = self._core
        if core.stage.record.wished or core.stage.record.confirmed:
            with contextlib.suppress(DataplaneError):
                if core.out.reconciler.relaxed():
                    self._found("relaxed")

    def disarm(self) -> DataplaneError | None:
        """Stop dropping, whatever else is refused. Returns why the kernel still drops; None: it
        does not."""
        core = self._core
        if core.down.asked:
            return None
        core.members.elements.enforce(OFF)
        try:
            core.out.reconciler.disarm()
        except DataplaneError as error:
            core.problems.set(
                "drops",
                f"this host should keep nobody out, but the kernel still does ({error}): run neti "
                "relax, or nft delete table inet neti",
            )
            log.error("not_disarmed", what=str(error))
            return error
        core.problems.clear("drops")
        return None

    def _rules_not_in(self, error: DataplaneError) -> None:
        """Members and stage are in and stay up to date; only the rules are the old ones."""
        core = self._core
        self._rules_stand = False
        self._rules_refused = isinstance(error, StructureRefused)
        self.failed(error)
        with contextlib.suppress(DataplaneError):  # nobody is kept out if the stage says otherwise
            if not core.stage.enforcement() and core.out.reconciler.drops():
                self.disarm()
        # Where the rules are not those that this agent left, nothing says any more what a gateway
        # may pass on. What cannot be read may well be there.
        with contextlib.suppress(DataplaneError):
            if not core.out.reconciler.untouched():
                self._roads.passing.unloaded()

    def remember(self) -> None:
        """Keep on disk how the kernel was left, for a restart, and what ``neti restore`` needs."""
        core, seen, around = self._core, self._core.out.reconciler.seen, self._surroundings
        before = core.disk.itself
        end = around.gateway if around is not None else None
        core.disk.keep_self(
            replace(
                before,
                structure_text=seen.digest if seen else None,
                structure_seen=seen.listing if seen else None,
                host=core.host,
                uplinks=before.uplinks if around is None else around.outside,
                ssh_untracked=before.ssh_untracked if around is None else around.ssh_untracked,
                via=end.via if end is not None else None,
                behind=end is not None and end.behind,
            )
        )

    def failed(self, error: DataplaneError) -> None:
        pause = self._core.timers.retry("resync", self._core.now())
        self._core.problems.set("kernel", str(error))
        log.error("kernel_refused", what=str(error), retry_seconds=pause)

    # --- what other programs do ---

    def look_for_drift(self) -> None:
        """Another program changed nftables: our table, or another one."""
        started = self._core.now()
        self.resync("another program changed nftables")
        self.others.looked(started)

    def look_at_network(self) -> None:
        core = self._core
        if core.down.asked or self._told_down():
            return
        before, started = self._surroundings, core.now()
        try:
            for drift in (*self._look_around(cheaply=True)[1], *self._forward()):
                self.others.repaired(drift)
            self.others.looked_at_network(started)
            if self.network.route(core.settings, core.host):
                self.others.repaired("the overlay's route was not as it should be")
        except DataplaneError as error:
            self.failed(error)
            return
        if self._surroundings != before:
            self.resync("uplinks or other tables changed")

    def audit(self) -> None:
        """Look for changes without an event: lost events, iptables-legacy, elements."""
        core = self._core
        core.soon("audit", _AUDIT_EVERY)
        core.soon("memory")
        if core.down.now:
            return
        self.tracking.tick(core.settings.conntrack_max)
        if core.now() >= self._full_audit_at:
            self._full_audit_at = core.now() + _FULL_AUDIT_EVERY
            self.resync("audit")
            return
        try:
            untouched = core.out.reconciler.untouched()
        except DataplaneError as error:
            self.failed(error)
            return
        self.look_at_network() if untouched else self.resync("audit")

    def look_at_arrivals(self) -> None:
        """The timer "arrivals": whether other programs' tables keep members out, by packets."""
        core = self._core
        core.soon("arrivals", _ARRIVALS_EVERY)
        if core.down.now:
            self.calls.stop()
            return
        try:
            counted = core.out.reconciler.counters()
        except DataplaneError:
            return  # the problems say what is wrong with the kernel
        self.network.arrived(counted)
        if "called" in counted:
            self.calls.look(counted["called"], core.since())
        self.network.relayed(counted if core.members.gateways.is_gateway else {})

    # --- down and up ---

    def take_out(self) -> None:
        """Remove everything that is Neti's, and nothing else. May be repeated. Raises
        DataplaneError."""
        out, settings = self._core.out, self._core.settings
        fault: DataplaneError | None = None
        try:
            self._roads.passing.take_out()  # before the rules that say what is passed on
        except DataplaneError as error:
            fault = error  # all else comes out first
        out.reconciler.remove()
        out.machine.remove_overlay_route(settings.overlay_subnet)
        self._roads.take_out()
        # The kernel would go on translating what it tracks without any rule.
        out.connections.end_stale(settings.overlay_subnet, lambda _: None)
        outside = [a for a in settings.nat_overrides if a not in settings.overlay_subnet]
        if outside:
            out.connections.end_connections_to(outside)
        self.tracking.put_back()
        if fault is not None:
            raise fault
