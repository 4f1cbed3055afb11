"""Faults that Neti once had, or nearly: each is put back by a patch in memory.

``python -m tests.simulation.old_faults`` says after how many seeds the simulation finds each, and
its shortest story.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

from simulation.kernel import SimulatedKernel
from simulation.run import drawn, play
from simulation.shrink import shrunk

from neti import durable, files
from neti.agent import kernel as agent_kernel
from neti.agent import naming, trial
from neti.agent.disk import Disk
from neti.agent.host_network import HostNetwork
from neti.agent.impostors import Impostors
from neti.agent.open_sessions import OpenSessions
from neti.agent.passing import Passing
from neti.agent.retiring import Retiring
from neti.agent.roads import Roads
from neti.agent.tracked import Tracked
from neti.agent.whoami import OwnIdentity
from neti.clock import SteadyClock
from neti.dataplane.reconciler import Reconciler
from neti.errors import DataplaneError
from neti.fleet import dispute, followed_groups, lost, removal
from neti.fleet.vouching import Vouching
from neti.host import listeners, surroundings
from neti.model import Departure
from neti.model.groups import MemberPorts
from neti.oneshot import restore
from neti.registry.memory import MemoryRegistry
from neti.registry.names import decode as decode_names
from neti.registry.retired import decode as decode_retired
from neti.ruleset import reach
from neti.ruleset.gateway_part import GatewayPart
from neti.stage import stages, way_in
from neti.stage.stages import Record
from neti.stage.taking_up import Found
from neti.state import records
from neti.state.folder import KEY_FILE, StateFolder
from neti.state.loaded import StateError
from neti.state.stage import stage_found

Patches = Iterator[Any]


def unsaved_is_forgotten() -> Patches:
    """What could not be written is never written again, and nobody waits for it."""

    def keep(disk: Disk, name: str, write: Callable[[], None]) -> bool:
        with contextlib.suppress(StateError):
            write()
        return True

    yield patch.object(Disk, "keep", keep)


def relax_waits_for_the_rules() -> Patches:
    """``relax`` empties the map only together with rules that are refused."""
    yield patch.object(agent_kernel.Kernel, "disarm", lambda _: None)

    def refused(_: Reconciler, *__: Any, **___: Any) -> None:
        raise DataplaneError("the rules were refused")

    yield patch.object(Reconciler, "_members_only", refused)


def a_newer_record_is_torn() -> Patches:
    """One key more, and the record counts as torn, and is written over."""
    read = records.record_of

    def strict(document: dict[str, Any]) -> Record:
        if "learnt_since" in document:
            raise KeyError("learnt_since")
        return read(document)

    yield patch.object(records, "record_of", strict)
    yield patch.object(StateFolder, "holds_what_is_not_understood", lambda *_: False)


def restore_overlooks_relaxed() -> Patches:
    """A power cut between the two steps of ``relax`` enforces at boot."""

    def found(*args: Any) -> Found:
        return replace(stage_found(*args), relaxed=None)

    yield patch.object(restore, "stage_found", found)


def anything_is_revoked() -> Patches:
    """A member claims the resolver's address, and lets go of it: replies from it are dropped."""
    yield patch.object(surroundings, "never_revoked", lambda *_: frozenset())


def a_hold_holds_all() -> Patches:
    """While something is held, further removals are held."""

    def objection(
        self: removal.Leaving, guard: Any, site: str, batch: Collection[str], *, now: float
    ) -> str | None:
        absent = self._absences.lost.keys()
        reason: str | None = guard.objection(batch, absent, self._standing.members, now=now)
        return reason or ("something is held" if self._absences.holds else None)

    yield patch.object(removal.Leaving, "_objection", objection)


def stale_translations_stay() -> Patches:
    """What began while the table was away is dead for as long as it keeps sending."""
    yield patch.object(Tracked, "end_stale", lambda _: None)


def time_by_the_wall_clock() -> Patches:
    """Whoever sets the clock lets go of who was only just lost."""
    yield patch.object(SteadyClock, "now", lambda self: self._clock.wall())


def unread_claims_move_members() -> Patches:
    """In a list an entry under a lost member's id is believed before its lease is read."""

    def believed(self: dispute.Judge, name: str, floor: int) -> bool:
        claim = self._roster.claims[name]
        leased = self._asking.holds_lease(claim)
        if claim.generation < floor or leased is not None:
            return bool(leased) and claim.generation >= floor
        if self._standing.speaks.get(claim.id) == name:
            return True
        return self._roster.listed(name) and self._roster.count_at(claim.overlay) == 1

    yield patch.object(dispute.Judge, "_believed", believed)


def outages_count_twice() -> Patches:
    """Who was found lost after an outage waits for as much longer as it took."""

    def stand_still(self: lost.Absences, seconds: float, *, now: float) -> None:
        for host_id, one in self._waiting.items():
            self._waiting[host_id] = replace(one, since=one.since + seconds)

    yield patch.object(lost.Absences, "stand_still", stand_still)


def confirmed_on_disk_first() -> Patches:
    """Killed between the two, the disk says what never happened."""
    confirm = trial.Trying.make_permanent

    def first(self: trial.Trying, by: str, *args: Any) -> bool:
        before = self._core.stage.record
        self._core.stage.keep(stages.confirmed(before))
        self._core.stage.record = before
        return confirm(self, by, *args)

    yield patch.object(trial.Trying, "make_permanent", first)


def no_way_in_is_no_hindrance() -> Patches:
    """An empty ssh_whitelist keeps nobody from arming."""
    hindrance = stages.hindrance

    def blind(**known: Any) -> str | None:
        return hindrance(**{**known, "way_in": True})

    yield patch.object(stages, "hindrance", blind)
    yield patch("neti.model.settings.Settings.way_in", True)


def a_copy_is_answered_at_once() -> Patches:
    """Two machines with one state folder share one session, and answer each other without end."""
    yield patch.object(MemoryRegistry, "_take_up", lambda *_: None)
    yield patch.object(Impostors, "answer", lambda self: self._core.soon("register"))


def a_scan_takes_all_room() -> Patches:
    """Ports with a listener have no room of their own: after a scan their users are not seen."""
    yield patch.object(listeners.Listening, "ports", lambda _: frozenset())


def the_session_does_not_matter() -> Patches:
    """An operator arms a host that does not let in the session in which he types it."""
    yield patch.object(way_in, "refusal", lambda *_: None)


def an_odd_answer_counts() -> Patches:
    """One answer without the public address, and the host is registered without it."""
    yield patch.object(OwnIdentity, "_doubtful", lambda *_: False)


def anybody_speaks_for_a_host() -> Patches:
    """Where records decide, an entry counts whatever they say."""
    yield patch.object(Vouching, "decides", False)


def anybody_says_goodbye_for_a_host() -> Patches:
    """In strict mode any goodbye that stands counts."""

    def goodbye(vouching: Vouching, host_id: str) -> Departure | None:
        word = f"left.zz.{host_id}"
        return Departure(host_id, int("zz", 36)) if vouching._standing(word) else None

    yield patch.object(Vouching, "goodbye", goodbye)


def an_upgrade_brings_rules_only() -> Patches:
    """Sets of another version are taken for those that are wanted, so its rules are refused."""
    yield patch.object(SimulatedKernel, "definitions", lambda self, _: self.read().definitions)


def a_route_stays_lost() -> Patches:
    """The overlay's route, which another program takes away, is not looked at."""
    yield patch.object(agent_kernel.Kernel, "look_at_network", lambda _: None)


def company_is_not_looked_at() -> Patches:
    """Another program's table keeps members out, and nothing says so."""
    yield patch.object(HostNetwork, "_name_drops", lambda *_: None)


def open_sessions_do_not_matter() -> Patches:
    """A trial confirms itself over an operator who is in by SSH, and is kept out from then on."""
    yield patch.object(OpenSessions, "shut_out", lambda _: "")


def a_lost_device_stays_lost() -> Patches:
    """The device is made once, and never looked at again."""
    real = Roads.put_right
    yield patch.object(Roads, "put_right", lambda self: "" if self._up else real(self))


def what_is_required_is_preferred() -> Patches:
    """Encryption that is required and confirmed counts as a wish: the clear road stays open."""
    yield patch.object(reach, "_NOT_IN_THE_CLEAR", frozenset())


def anybodys_key_file_is_used() -> Patches:
    """A key file that was copied from another machine is taken for this host's."""
    real = StateFolder._document

    def _document(folder: StateFolder, name: str, read: Any, faults: Any) -> Any:
        mine = folder.machine
        if name == KEY_FILE and (folder.path / name).exists():
            content = files.read(folder.path / name, 4096)
            folder.machine = durable.checked(content)["machine"]
        try:
            return real(folder, name, read, faults)
        finally:
            folder.machine = mine

    yield patch.object(StateFolder, "_document", _document)


def a_reload_shuts_at_once() -> Patches:
    """What a file takes away is gone without a trial, where others were in force."""
    real = stages.allotted

    def allotted(record: Record, ports: MemberPorts) -> Record:
        done = real(record, ports)
        return replace(done, member_ports=ports or None) if done.confirmed else done

    yield patch.object(stages, "allotted", allotted)


def who_was_kept_out_is_forgotten() -> Patches:
    """The disk says that a host is enforced, and not which ports are shut to members."""
    read = records.record_of
    yield patch.object(records, "record_of", lambda held: replace(read(held), member_ports=None))


def a_wiped_registry_says_who_is_in_a_group() -> Patches:
    """Whatever the registry says of groups is followed."""
    yield patch.object(followed_groups, "objection", lambda *_, **__: None)


def a_wiped_registry_takes_names_away() -> Patches:
    """Whatever the registry says of names is followed."""
    yield patch.object(naming, "followed", lambda _, raw, now: (decode_names(raw), None))


def a_wiped_registry_lets_retired_hosts_in() -> Patches:
    """Who is out goes by what the registry says now."""
    take = Retiring.take

    def only_the_registry(retiring: Retiring, value: bytes | None) -> None:
        disk = retiring._core.disk
        if retiring._core.host.id not in decode_retired(value):
            disk.keep_self(replace(disk.itself, retired=None))
        take(retiring, value)

    yield patch.object(Retiring, "take", only_the_registry)


def a_hosts_file_is_written_once() -> Patches:
    """Who joins later has no name."""
    yield patch.object(naming.Naming, "changed", lambda _: None)


def a_word_in_the_kernel_is_written_over() -> Patches:
    """An agent that was stopped in the middle of a look takes an operator's word for another
    program's work."""
    yield patch.object(Reconciler, "_read", lambda self, _: self._dataplane.read())


def forwarding_stays_off() -> Patches:
    """Forwarding is switched on with the table, and never looked at again."""
    real = Passing.forward
    yield patch.object(Passing, "forward", lambda s: "" if s._forwarding else real(s))


def down_leaves_forwarding_on() -> Patches:
    """A host that is down forwards whatever comes."""
    yield patch.object(Passing, "take_out", lambda _: None)


def a_silent_gateway_is_sent_to() -> Patches:
    """Only the registry says whether a gateway is there."""
    yield patch.object(GatewayPart, "believe", lambda *_: None)


FAULTS: Final[tuple[Callable[[], Patches], ...]] = (
    unsaved_is_forgotten,
    a_word_in_the_kernel_is_written_over,
    relax_waits_for_the_rules,
    a_newer_record_is_torn,
    restore_overlooks_relaxed,
    anything_is_revoked,
    a_hold_holds_all,
    stale_translations_stay,
    time_by_the_wall_clock,
    unread_claims_move_members,
    outages_count_twice,
    confirmed_on_disk_first,
    no_way_in_is_no_hindrance,
    a_copy_is_answered_at_once,
    a_scan_takes_all_room,
    the_session_does_not_matter,
    an_odd_answer_counts,
    anybody_speaks_for_a_host,
    anybody_says_goodbye_for_a_host,
    an_upgrade_brings_rules_only,
    a_route_stays_lost,
    company_is_not_looked_at,
    open_sessions_do_not_matter,
    a_lost_device_stays_lost,
    anybodys_key_file_is_used,
    what_is_required_is_preferred,
    a_reload_shuts_at_once,
    who_was_kept_out_is_forgotten,
    a_wiped_registry_says_who_is_in_a_group,
    a_wiped_registry_takes_names_away,
    a_wiped_registry_lets_retired_hosts_in,
    a_hosts_file_is_written_once,
    forwarding_stays_off,
    down_leaves_forwarding_on,
    a_silent_gateway_is_sent_to,
)


@contextmanager
def put_back(fault: Callable[[], Patches]) -> Iterator[None]:
    with ExitStack() as stack:
        for one in fault():
            stack.enter_context(one)
        yield


def found_after(fault: Callable[[], Patches], first: int, seeds: int, steps: int) -> str:
    for count in range(1, seeds + 1):
        size, acts = drawn(str(first + count - 1), steps)
        with put_back(fault):
            outcome = play(size, acts)
        if outcome.fault is None or play(size, acts).fault is not None:
            continue
        with put_back(fault):
            fleet, fewer = shrunk(
                size, outcome.acts, outcome.fault.code, quiet=outcome.quiet, attempts=120
            )
            again = play(fleet, fewer)
        story = " · ".join(again.story)
        return f"{count} seeds: {again.fault} (of {fleet})\n    {story}\n    {fewer!r}"
    return f"not within {seeds} seeds"


def main() -> None:
    if os.environ.get("PYTHONHASHSEED") != "0":
        again = [sys.executable, "-m", "tests.simulation.old_faults", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "PYTHONHASHSEED": "0"})
    wanted = sys.argv[1:]
    for fault in FAULTS:
        if not wanted or fault.__name__ in wanted:
            print(f"{fault.__name__}: {found_after(fault, 1, 500, 500)}", flush=True)


if __name__ == "__main__":
    main()
