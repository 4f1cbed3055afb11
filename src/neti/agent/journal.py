"""Changes of members: logged, and written to disk once the kernel has them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from neti import log
from neti.agent.core import Core
from neti.agent.sparing import Sparing
from neti.fleet.fleet import Fleet
from neti.fleet.former import FormerAddresses
from neti.fleet.members import Change
from neti.fleet.remembered import Remembered
from neti.model import Member
from neti.state.gone import GONE_FILE
from neti.words import some

_LOG_EACH = 20  # members logged one by one; more of them are one line


class Journal:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._unwritten: dict[str, Remembered | None] = {}
        self._gone: dict[str, int] = {}  # removed, and not on disk yet
        self._left_over: set[str] = set()  # to be written, whatever the new membership says
        self._lost: set[str] = set()  # as last logged
        self._held: set[str] = set()
        self._before: dict[str, Member] | None = None  # the membership before the present one
        self._window: dict[str, float] = dict(core.guard.window)
        self._sparing = Sparing()
        self.former = FormerAddresses()

    def take_changes(self) -> None:
        """Take changes into the elements, the log, and the next write."""
        members = self._core.members
        changes = said = members.take_changes()
        self._gone.update(members.fleet.take_new_gone())
        if self._before is not None:
            said, self._before = _differences(self._before, members.fleet.members), None
        self._say_changes(said)
        if changes or said:
            self.former.note(said, now=self._core.since())
            self._core.naming.changed()
            ids = dict.fromkeys(change.id for change in (*changes, *said))  # mostly the same ones
            self._unwritten.update({i: members.remembered(i) for i in ids})
        if touched := members.fleet.take_absence_changes() | self._left_over:
            self._left_over = set()
            self._unwritten.update({host_id: members.remembered(host_id) for host_id in touched})
            self._say_absences(members.fleet, touched)

    def _say_changes(self, changes: list[Change]) -> None:
        """Members that come and go all the time are only counted after a while."""
        now, members = self._core.now(), len(self._core.members.fleet.members)
        if changes and len(changes) <= _LOG_EACH and self._sparing.may_say(len(changes), now=now):
            for change in changes:
                _log_change(change)
        elif changes:
            self._sparing.count(
                joined=sum(change.before is None for change in changes),
                gone=sum(change.after is None for change in changes),
                changed=sum(None not in (change.before, change.after) for change in changes),
            )
        if counted := self._sparing.take_counted(now=now):
            log.info("members_changed", **counted, members=members)

    def _say_absences(self, fleet: Fleet, touched: set[str]) -> None:
        """That a member is lost or held changes nothing for the kernel, but people want to know.
        Costs only as much as there are touched members."""
        now = self._core.now()
        all_lost, all_held = fleet.lost, fleet.holds
        lost = {host_id for host_id in touched if host_id in all_lost}
        held = {host_id for host_id in touched if host_id in all_held}
        if new := lost - held - self._lost:
            if self._sparing.may_say(min(len(new), _LOG_EACH), now=now):
                _log_lost(new, self._core.settings.linger_seconds)
            else:
                self._sparing.count(lost=len(new))
        if new := held - self._held:
            self._say_held(fleet, new, now=now)
        if (ended := (self._held & touched) - held) and self._sparing.may_say(1, now=now):
            left = len(fleet.holds)
            log.warning("holds_ended", ended=len(ended), still_held=left, ids=some(ended))
        self._lost -= touched
        self._lost |= lost
        self._held -= touched
        self._held |= held

    def _say_held(self, fleet: Fleet, new: set[str], *, now: float) -> None:
        if self._sparing.may_say(1, now=now):
            reason, held = fleet.holds[next(iter(new))].reason, len(fleet.holds)
            log.error("removals_held", held=len(new), all_held=held, ids=some(new), why=reason)
        else:
            self._sparing.count(held=len(new))

    def anew(self) -> None:
        """The membership is about to be built from scratch: log only what that changes, and miss
        nothing on disk."""
        self.take_changes()
        self._before = dict(self._core.members.fleet.members)
        self._left_over = set(self._lost)

    def note(self, ids: Iterable[str]) -> None:
        """Something else about these members is to be remembered as it is now."""
        members = self._core.members
        self._unwritten.update({i: members.remembered(i) for i in ids})

    def note_leases(self) -> None:
        """Note the leases that were read after a list, so that a restart believes these members
        without asking. Once for all of them, because nothing else about them has changed."""
        members = self._core.members
        self._unwritten.update({i: members.remembered(i) for i in members.fleet.take_now_leased()})

    def anew_on_disk(self) -> None:
        """Write times of an earlier run as they are counted now, before the clock's note is
        written."""
        members = self._core.members
        self._unwritten.update({i: members.remembered(i) for i in members.fleet.lost})
        self.write()

    def write(self) -> None:
        core = self._core
        if core.guard.window != self._window:
            self._window = dict(core.guard.window)
            core.disk.keep("guard.json", lambda: core.out.folder.save_window(self._window))
        # Before the members: killed in between, who is gone is still listed as a member, and it is
        # found out again that it went. The other way round an older list would let it in.
        if new := self._gone:
            self._gone = {}
            core.disk.keep(
                GONE_FILE, lambda: core.out.folder.note_gone(new, core.members.fleet.gone)
            )
        if not self._unwritten or not core.members.known:
            return
        changes, self._unwritten = self._unwritten, {}
        core.disk.keep(
            "members.jsonl", lambda: core.out.folder.append(changes, core.members.everybody())
        )


def _differences(before: Mapping[str, Member], after: Mapping[str, Member]) -> list[Change]:
    return [
        Change(host_id, before.get(host_id), after.get(host_id))
        for host_id in {**before, **after}
        if before.get(host_id) != after.get(host_id)
    ]


def _log_lost(ids: set[str], linger: int) -> None:
    for host_id in sorted(ids)[:_LOG_EACH]:
        log.warning("member_lost", id=host_id, linger_seconds=linger)
    if len(ids) > _LOG_EACH:
        log.warning("members_lost", lost=len(ids), linger_seconds=linger)


def _what_became(change: Change) -> str:
    before, after = change.before, change.after
    if before is None:
        return "joined"
    if after is None:
        return "gone"
    # A host whose session had ended has a new entry that says the same.
    return "returned" if replace(before, generation=after.generation) == after else "changed"


def _log_change(change: Change) -> None:
    member = change.after or change.before
    assert member is not None
    log.info(
        f"member_{_what_became(change)}",
        id=member.id,
        site=member.site,
        overlay=member.overlay,
        private=member.private,
        public=member.public or "none",
    )
