"""``member_ports`` in the record of the stage: what is in force, what waits, what is on trial."""

from dataclasses import replace
from typing import Any

import pytest

from neti.durable import line
from neti.model.document import plain
from neti.model.groups import MemberPort, MemberPorts
from neti.ruleset.enforce import OFF, PERMANENT, REQUIRED, Enforcement
from neti.stage import stages
from neti.stage.stages import Record, Trial
from neti.stage.taking_up import Found, Source, take_up
from neti.state.records import record_of

DB: tuple[MemberPort, ...] = (MemberPort(("app",), "tcp", 5432, 5432),)
WIDER: MemberPorts = (MemberPort(("app", "web"), "tcp", 5432, 5432),)
OTHER: tuple[MemberPort, ...] = (MemberPort(("web",), "tcp", 80, 80),)
ENFORCED = Record(configured=True, wished=True, confirmed=True, by="command")
TRIAL: dict[str, Any] = {"boot": "b", "deadline": 60.0, "began": 0.0, "seconds": 60}


def trial(ports: MemberPorts = DB, **changes: Any) -> Trial:
    return Trial(**{**TRIAL, "member_ports": ports, **changes})


def test_the_first_ones_wait_and_nothing_of_the_record_changes() -> None:
    for record in (Record(), ENFORCED):
        assert stages.waits(record, DB)
        assert stages.allotted(record, DB) == record
        for none in (None, ()):
            assert not stages.waits(record, none)
            assert stages.allotted(record, none) == record


def test_what_takes_nothing_away_is_in_force_at_once() -> None:
    held = replace(ENFORCED, member_ports=DB)
    assert stages.allotted(held, WIDER).member_ports == WIDER
    for none in (None, ()):
        assert stages.allotted(held, none).member_ports is None
    narrower = (MemberPort(("app",), "tcp", 5432, 5432), *OTHER[1:])
    held = replace(ENFORCED, member_ports=WIDER)
    assert stages.waits(held, narrower)
    assert stages.allotted(held, narrower) == held
    # Back again, what is in force waits for nothing.
    assert stages.allotted(stages.allotted(held, narrower), WIDER) == held


def test_what_a_file_adds_is_not_taken_away_by_the_next_one() -> None:
    """Or a reload would drop at once what was let in for days, only because no trial was of it."""
    held = replace(ENFORCED, member_ports=DB)
    both = stages.allotted(held, OTHER)
    assert both.member_ports == (*OTHER, *DB)
    assert stages.waits(both, OTHER)
    assert stages.waits(stages.allotted(both, DB), DB)
    assert stages.allotted(both, OTHER) == both
    assert stages.allotted(both, (*DB, *OTHER)).member_ports == (*DB, *OTHER)


def test_a_trial_has_an_end_and_what_is_in_force_stays() -> None:
    begun = stages.begun(replace(ENFORCED, member_ports=DB), trial(OTHER))
    on_trial = stages.enforcement(begun, 20.0)
    assert on_trial == Enforcement(permanent=True, narrow=40.0)
    assert stages.enforcement(begun, 60.0) == PERMANENT
    assert stages.on_trial(begun) == ("member_ports",)
    ended = stages.unconfirmed(begun, ("why",), 60.0)
    assert (ended.member_ports, ended.tried, ended.retry_at) == (DB, ("member_ports",), None)
    done = stages.confirmed(begun)
    assert done.member_ports == OTHER
    assert stages.enforcement(done, 20.0) == PERMANENT


def test_all_three_are_tried_together() -> None:
    begun = stages.begun(stages.commanded(Record(), True), trial(require=True))
    assert stages.on_trial(begun) == ("reject_all", "encryption", "member_ports")
    assert stages.enforcement(begun, 0.0) == Enforcement(seconds=60, require=60, narrow=60)
    done = stages.confirmed(begun)
    assert (done.requires, done.member_ports) == (True, DB)
    assert stages.enforcement(done, 0.0) == REQUIRED
    assert stages.enforcement(stages.commanded(done, False), 0.0) == OFF
    assert stages.commanded(done, False).member_ports is None
    # A trial without any takes nothing back of what is in force.
    held = replace(ENFORCED, member_ports=DB)
    assert stages.confirmed(stages.begun(held, trial(None, require=True))).member_ports == DB


def test_a_file_with_other_ones_ends_their_part_of_the_trial() -> None:
    alone = stages.begun(ENFORCED, trial())
    assert stages.allotted(alone, DB) == alone
    for other in (OTHER, WIDER, None):
        assert stages.allotted(alone, other).trial is None
    first = stages.begun(stages.commanded(Record(), True), trial())
    assert stages.allotted(first, OTHER).trial == replace(trial(), member_ports=None)
    both = stages.begun(ENFORCED, trial(require=True))
    assert stages.allotted(both, OTHER).trial == replace(trial(require=True), member_ports=None)
    # The same the other way round.
    assert stages.unrequired(both).trial == trial()
    assert stages.unrequired(alone) == alone


def test_a_trial_that_failed_is_forgotten_with_its_reason() -> None:
    failed = stages.unconfirmed(stages.begun(ENFORCED, trial()), ("why",), 60.0)
    assert stages.allotted(failed, DB).failures == 1
    assert stages.allotted(failed, OTHER).failures == 1
    assert stages.allotted(failed, None).failures == 0
    assert stages.unrequired(failed).failures == 1


@pytest.mark.parametrize("armed", [True, False])
@pytest.mark.parametrize("narrows", [True, False])
def test_a_killed_agent_takes_up_a_trial_and_never_confirms_one_of_them_alone(
    armed: bool, narrows: bool
) -> None:
    alone = stages.begun(ENFORCED, trial())
    found = Found(record=alone, armed=armed, narrows=narrows)
    taken = take_up(found, reject_all=True, boot="b", monotonic=20.0, now=20.0).record
    assert taken.member_ports is None
    assert (taken.trial is not None) is narrows
    assert taken.failures == (not narrows)
    # Together with reject_all there was one transaction, which left the host enforced for good.
    first = stages.begun(stages.commanded(Record(), True), trial())
    found = Found(record=first, armed=armed, narrows=narrows)
    taken = take_up(found, reject_all=None, boot="b", monotonic=20.0, now=20.0).record
    assert (taken.member_ports == DB) is armed
    assert (taken.confirmed, taken.trial is None) == (armed, armed)


def test_another_boot_ends_a_trial_and_keeps_what_is_in_force() -> None:
    found = Found(record=stages.begun(replace(ENFORCED, member_ports=DB), trial(OTHER)), armed=True)
    taken = take_up(found, reject_all=True, boot="c", monotonic=5.0, now=5.0).record
    assert (taken.member_ports, taken.trial, taken.failures) == (DB, None, 1)


def test_a_lost_record_leaves_nothing_in_force_but_reject_all() -> None:
    taken = take_up(
        Found(record=None, armed=True), reject_all=True, boot="b", monotonic=0.0, now=0.0
    )
    assert taken.source is Source.KERNEL_ALONE
    assert taken.record.confirmed
    assert taken.record.member_ports is None


def test_on_disk_they_are_read_by_versions_before_and_after() -> None:
    record = replace(ENFORCED, member_ports=(*DB, MemberPort(("ops",))), trial=trial(OTHER))
    held = plain(record)
    assert line(held)
    assert record_of(held) == record
    later = {**held, "member_ports": [{**held["member_ports"][0], "unknown": 1}]}
    assert record_of(later).member_ports == DB
    for name in ("member_ports", "tried"):
        del held[name]
    del held["trial"]["member_ports"]
    earlier = record_of(held)
    assert (earlier.member_ports, earlier.confirmed) == (None, True)
    assert earlier.trial == trial(None)


def test_that_they_were_lost_is_on_disk_until_others_are_confirmed() -> None:
    found = Found(record=None, armed=True, narrowed=True)
    lost = take_up(found, reject_all=True, boot="b", monotonic=0.0, now=0.0).record
    assert lost.ports_lost
    held = plain(stages.allotted(lost, DB))
    found = Found(record=record_of(held), armed=True)  # the kernel shows nothing of it any more
    assert take_up(found, reject_all=True, boot="b", monotonic=1.0, now=1.0).record == lost
    # A trial of something else says nothing of them, and neither does one that failed.
    other = stages.confirmed(stages.begun(lost, trial(None, require=True)))
    assert other.ports_lost
    assert stages.unconfirmed(stages.begun(lost, trial()), ("why",), 60.0).ports_lost
    done = stages.confirmed(stages.begun(lost, trial()))
    assert (done.member_ports, done.ports_lost) == (DB, False)
    assert not stages.allotted(lost, None).ports_lost
    # Versions before this one pass over it, and the host stays enforced by what they read.
    del held["ports_lost"]
    earlier = record_of(held)
    assert (earlier.confirmed, earlier.ports_lost) == (True, False)
