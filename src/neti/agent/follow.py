"""Follows the registry: its events go into the fleet, and we remember which registry it is.

Must never do: conclude anything from silence, or let a list that may come from another registry or
an older copy remove anybody.
"""

from collections.abc import Callable, Set
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Final
from zlib import crc32

from neti import log
from neti.agent.collector import MANY
from neti.agent.core import Core
from neti.agent.drained_gateways import DrainedGateways
from neti.agent.fleet_release import FleetRelease
from neti.agent.journal import Journal
from neti.agent.proving import Proving
from neti.agent.registration import Registration
from neti.agent.retiring import Retiring
from neti.agent.revoked_keys import RevokedKeys
from neti.agent.strictness import Strictness
from neti.agent.told import Answers
from neti.agent.word_first import WordFirst
from neti.control.server import Request
from neti.errors import DataplaneError
from neti.host.systemd import notify
from neti.registry import (
    VERSIONS,
    Appeared,
    DataRead,
    Event,
    Fresh,
    HostChanged,
    HostRead,
    KeyRead,
    LeaseRead,
    Origin,
    SessionEnded,
    SessionTaken,
    SettingRead,
    Snapshot,
    Stale,
    Vanished,
)
from neti.registry.record import HostId, KeyName
from neti.words import counted, some

_STALE_TOLD_EVERY: Final = 60.0  # seconds between two lines about a registry that stays away
_ORIGIN_EVERY: Final = 60.0  # seconds between notes of how far along the registry is
_ASK_AGAIN_AFTER: Final = 3.0  # seconds to a second question about an address that was nobody's
_STOOD_STILL: Final = 5.0  # seconds late from which on a turn of the loop was not only busy
_SETTLED_AFTER: Final = 5.0  # seconds after a list, when its leases have been read as well


class Following:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(
        self,
        core: Core,
        journal: Journal,
        registration: Registration,
        resync: Callable[[str], DataplaneError | None],
    ) -> None:
        self._core = core
        self._journal = journal
        self._registration = registration
        self._resync = resync
        self._release = FleetRelease(core)
        self._strictness = Strictness(core)
        self.revoked_keys = RevokedKeys(core)
        self._drained = DrainedGateways(core)
        self._retiring = Retiring(core, registration)
        self._word_first = WordFirst(
            self._take_in,
            self._strictness.take,
            lambda: core.members.fleet.records == "report",
        )
        self.proving = Proving(core)
        self._stale_told = float("-inf")
        # CLOCK_MONOTONIC seconds. This process stood still, and until then what the registry said
        # meanwhile may not have come in yet.
        self.hears_again_at = float("-inf")
        self.doubted_at: float | None = None  # steady seconds, and
        self._doubt_concerned = False  # whether it held or kept out anybody
        self._origin: Origin | None = None  # of the registry, as far as it was seen
        # Not with all other hosts at the same moment.
        share = crc32(core.host.id.encode()) / 0xFFFFFFFF
        self._ask_again_after = _ASK_AGAIN_AFTER * (1 + share)

    def take_in(self, event: Event) -> None:
        self._word_first.told(event)

    def take_in_all(self, answers: Answers) -> None:
        """As each by itself, but decided once."""
        core = self._core
        if self._word_first.waits:
            for each in answers.each:
                self._word_first.told(each)
            return
        core.members.fleet.answers(answers.each, now=core.since())
        for each in answers.each:
            if isinstance(each, HostRead):
                self._registration.record_read(each)
        self._look_at_unleased()

    def _take_in(self, event: Event) -> None:
        core = self._core
        fleet = core.members.fleet
        match event:
            case Snapshot():
                self._listed(event)
            case Appeared(name):
                self._one_further()
                fleet.appeared(name, now=core.since())
                self._registration.name_appeared(name)
            case Vanished(name):
                self._one_further()
                fleet.vanished(name, now=core.since())
                self._registration.entry_vanished(name)
            case LeaseRead(overlay, host_id):
                self._lease_read(overlay, host_id)
            case HostChanged(host_id):
                fleet.host_changed(host_id, now=core.since())
            case DataRead() | KeyRead() | HostRead():
                fleet.answers((event,), now=core.since())
                if isinstance(event, HostRead):
                    self._registration.record_read(event)
            case SettingRead():
                self._live_setting(event)
            case Fresh():
                self._became_fresh(event)
            case Stale(reason):
                self._became_stale(reason)
            case SessionEnded():
                self._registration.session_ended()
            case SessionTaken():
                self._registration.session_taken()

    def _lease_read(self, overlay: IPv4Address, host_id: str | None) -> None:
        self._core.members.fleet.lease_read(overlay, host_id)
        self._look_at_unleased()

    def _look_at_unleased(self) -> None:
        core = self._core
        if core.members.fleet.unleased and "leases" not in core.timers.due:
            core.soon("leases", self._ask_again_after)

    # --- lists, and which registry they come from ---

    def _listed(self, snapshot: Snapshot) -> None:
        """The complete list. The first one replaces what was only adopted from the kernel."""
        core = self._core
        if len(snapshot.names) >= MANY:
            core.soon("memory", _SETTLED_AFTER)  # whatever happens to this list, it goes on then
            core.out.collector.pause()
        before = self._origin or core.disk.itself.origin
        doubt = snapshot.origin.doubt(before) if before is not None else None
        if doubt is None and core.members.known and snapshot.origin == self._origin:
            doubt = _another_course(snapshot, core.members.fleet.names)
        if not core.members.known:
            self.anew(remember=False)
            core.soon("stage")  # enforcement that waited for members may be possible now
            doubt = None
        if doubt is not None:
            log.error("registry_doubted", what=doubt, kept=len(core.members.fleet.members))
            self.doubted_at, self._doubt_concerned = core.since(), False
            core.problems.set(
                "origin",
                f"{doubt} Members that it does not list are held, and hosts that were gone are not "
                "let in until they register again",
            )
            self._retiring.look()
        # What a registry of another fleet lists was made in it: nobody comes back by a copy.
        older = before is not None and before.fleet == snapshot.origin.fleet
        core.members.listed(snapshot.names, now=core.since(), doubt=doubt, older=older)
        fleet = core.members.fleet
        self._doubt_concerned = self._doubt_concerned or bool(fleet.holds or fleet.ghosts)
        self._registration.impostors.listed()
        self.proving.listed()
        self._origin = snapshot.origin
        core.soon("memory", _SETTLED_AFTER)
        if doubt is not None or before is None or before.fleet != snapshot.origin.fleet:
            # After the holds are on disk: if we are killed in between, the doubt comes again.
            self._journal.take_changes()
            self._journal.write()
            self.note_origin()

    def look_at_doubt(self) -> None:
        """It is over with the last of those whom it concerned, and not in a moment where it
        concerned nobody: somebody has to hear of it."""
        core, fleet = self._core, self._core.members.fleet
        if fleet.holds or fleet.ghosts:
            self._doubt_concerned = True
        elif (
            self.doubted_at is None
            or self._doubt_concerned
            or core.since() - self.doubted_at >= core.settings.hold_seconds
        ):
            self.doubted_at = None
            if "origin" in core.problems:
                core.problems.clear("origin")
                self._retiring.look()

    def _one_further(self) -> None:
        if self._origin is not None:
            version = (self._origin.version + 1) % VERSIONS
            self._origin = replace(self._origin, version=version)

    def note_origin(self) -> None:
        core = self._core
        core.soon("origin", _ORIGIN_EVERY)
        if self._origin is not None and self._origin != core.disk.itself.origin:
            core.disk.keep_self(replace(core.disk.itself, origin=self._origin))

    def anew(self, *, remember: bool) -> None:
        """Membership from scratch for the present settings and host."""
        self._journal.anew()
        proved = self._core.members.fleet.proved_words
        self._core.renew_members(remember=remember)
        self.proving.anew(proved)
        self._core.soon("resync")

    def release(self, request: Request) -> None:
        """``neti release``: all hosts that are held, or those that are named."""
        fleet = self._core.members.fleet
        asked = request.arguments.get("ids")
        ids = list(fleet.holds) if asked is None else [str(host_id) for host_id in asked]
        unknown = [host_id for host_id in ids if host_id not in fleet.holds]
        if unknown:
            request.fail(f"not held here: {', '.join(unknown)}: 'neti status' shows the holds")
            return
        fleet.release(ids)
        log.warning("released", hosts=len(ids), ids=some(ids), by="command")
        refused = self._resync("release")
        if refused is not None:
            request.fail(
                f"released {some(ids)}, but the kernel refused it, so they still have access: "
                f"{refused}\n→ 'neti status' shows the refusal; the agent tries again by itself"
            )
            return
        request.succeed({"released": sorted(ids), "still_held": len(fleet.holds)})

    # --- in step, or not ---

    def _live_setting(self, read: SettingRead) -> None:
        core, value = self._core, read.value
        match read.setting:
            case "release":
                self._release.take(value)
            case "revoked":
                self.revoked_keys.take(value)
            case "asked":
                self._registration.describing.heard(value)
            case "drained":
                self._drained.take(value)
            case "retired":
                self._retiring.take(value)
            case "groups":
                core.grouping.take(value, self._origin.fleet if self._origin else "")
            case "names":
                core.naming.take(value)
            case "strict":
                self._strictness.take(value, self._origin)
            case "interval" | "maxchange":
                core.live.take(read)
                core.guard.allow(core.live.maxchange)
                if read.setting in core.live.faults:
                    log.warning("live_setting_ignored", what=core.live.faults[read.setting])

    def _became_fresh(self, fresh: Fresh) -> None:
        core = self._core
        # On disk before the registration exists: if killed in between, a restart finds its session.
        core.disk.keep("session.json", lambda: core.out.folder.save_session(fresh.session))
        stood = core.in_step.is_fresh(core.since())
        if stood is not None:
            core.members.fleet.time_stood_still(stood, now=core.since())
        core.problems.clear("registry")
        core.members.fleet.gap_is_over()
        if fresh.unanswered:
            core.members.fleet.ask_again()
        log.info("registry_fresh", members=len(core.members.fleet.members))
        core.soon("register")
        core.soon("resync")
        core.soon("stage")
        self._tell_systemd()

    def _became_stale(self, reason: str) -> None:
        core = self._core
        if core.in_step.fresh or core.now() >= self._stale_told + _STALE_TOLD_EVERY:
            # The reason differs from server to server, and several come in one second.
            log.warning("registry_stale", reason=reason, kept=len(core.members.fleet.members))
            self._stale_told = core.now()
        core.in_step.is_stale(reason, core.since())
        core.members.fleet.gap_begins()
        core.problems.set("registry", f"registry: {reason}; the last good state stays in force")
        self._tell_systemd()

    def _tell_systemd(self) -> None:
        core = self._core
        state = "in step" if core.in_step.fresh else f"registry: {core.in_step.reason}"
        notify(f"STATUS={state}; {len(core.members.fleet.members)} members")

    # --- questions and time ---

    def ask(self) -> None:
        """What must be read from the registry before everything can be decided."""
        asked = self._core.members.fleet.questions()
        if asked:
            keys = [KeyName(str(key)) for key in asked.keys]
            hosts = map(HostId, asked.hosts)
            self._core.out.registry.ask([*asked.leases, *asked.data, *hosts, *keys])

    def ask_unleased(self) -> None:
        """The timer "leases"."""
        self._core.members.fleet.ask_unleased()

    def woke(self, *, late: float) -> None:
        """The loop goes on, so many seconds later than it should. If it was stopped, or the machine
        slept, the connection may be one that the registry has given up, and whoever came back
        meanwhile is not known yet. Within a session's time-out it turns out."""
        if late < _STOOD_STILL:
            return
        core = self._core
        self.hears_again_at = core.now() + core.settings.session_seconds
        log.warning(
            "stood_still",
            seconds=round(late),
            what="this process was stopped, it waited for a wireguard-go that hangs, its machine "
            "slept, or there was no CPU for it: no lost member is let go for "
            f"{core.settings.session_seconds:.0f} s",
        )

    def let_go(self) -> None:
        """Lets go of lost members whose time is over. Not while the registry is away, because then
        nobody can come back; nor while it is not known whether it is."""
        if self._core.in_step.fresh and self._core.now() >= self.hears_again_at:
            self._core.members.fleet.tick(now=self._core.since())


def _another_course(snapshot: Snapshot, known: Set[str]) -> str | None:
    """Why a list that is as far along as we are may be of an older copy, in which other changes
    were made since; None if it holds what we know."""
    differing = snapshot.names ^ known
    if not differing:
        return None
    return (
        f"the registry took another course than we saw (version {snapshot.origin.version}, and "
        f"{counted(len(differing), 'entry', 'entries')} not as known): was it restored from an "
        "older copy?"
    )
