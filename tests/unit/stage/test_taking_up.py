"""What a process that starts goes by: one answer for the agent, restore, plan and check."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.model.said import Said
from neti.stage import stages
from neti.stage.stages import Record, Stage, Trial
from neti.stage.taking_up import Found, Source, take_up

SHADOW = Record(configured=False)
ENFORCED = Record(configured=False, wished=True, by="command", confirmed=True)
RELAXED = stages.commanded(ENFORCED, False, at=5.0, by="alice")
ON_TRIAL = stages.begun(
    stages.commanded(SHADOW, True), Trial(boot="b", deadline=100, began=0, seconds=60)
)
SAID = Said(at=7.0, by="bob", until=900.0)


def taken(
    found: Found,
    reject_all: bool | None = False,
    boot: str = "b",
    left: float | None = None,
) -> tuple[Source, Record]:
    done = take_up(found, reject_all=reject_all, boot=boot, monotonic=50.0, now=1000.0, left=left)
    return done.source, done.record


@pytest.mark.parametrize(
    ("found", "source", "stage"),
    [
        (Found(record=None), Source.RECORD, Stage.SHADOW),
        (Found(record=ENFORCED), Source.RECORD, Stage.ENFORCED),
        (Found(record=ENFORCED, armed=True), Source.RECORD, Stage.ENFORCED),
        (Found(record=ON_TRIAL), Source.RECORD, Stage.TRIAL),
        (Found(record=ON_TRIAL, armed=True), Source.RECORD, Stage.ENFORCED),
        (Found(record=None, armed=True), Source.KERNEL_ALONE, Stage.ENFORCED),
        (Found(record=None, lost=True, armed=True), Source.KERNEL_ALONE, Stage.ENFORCED),
        (Found(record=SHADOW, armed=True), Source.KERNEL_NEWER, Stage.ENFORCED),
        (Found(record=RELAXED, armed=True), Source.RECORD, Stage.SHADOW),
        (Found(record=None, lost=True), Source.NOTHING, Stage.SHADOW),
        (Found(record=ENFORCED, relaxed=SAID, armed=True), Source.RELAXED_ON_DISK, Stage.SHADOW),
        (Found(record=ENFORCED, relaxed_in_kernel=True), Source.RELAXED_IN_KERNEL, Stage.SHADOW),
        (Found(record=None, lost=True, relaxed=Said()), Source.RELAXED_ON_DISK, Stage.SHADOW),
    ],
)
def test_what_counts(found: Found, source: Source, stage: Stage) -> None:
    why, record = taken(found)
    assert (why, record.stage) == (source, stage)
    assert taken(found, None)[1].stage is stage


def test_a_word_on_disk_keeps_who_said_it_and_until_when() -> None:
    record = taken(Found(record=ENFORCED, relaxed=SAID), left=60.0)[1]
    assert (record.said_at, record.said_by) == (7.0, "bob")
    assert (record.relaxed_until, record.relaxed_for) == (1060.0, 60.0)
    unsigned = taken(Found(record=ENFORCED, relaxed=Said()))[1]
    assert unsigned.said_at == 1000.0
    assert unsigned.relaxed


def test_a_word_in_the_kernel_does_not_replace_the_one_on_disk() -> None:
    assert taken(Found(record=RELAXED, relaxed_in_kernel=True))[1].said_by == "alice"


def test_a_trial_of_another_boot_is_over() -> None:
    record = taken(Found(record=ON_TRIAL), boot="another")[1]
    assert record.stage is Stage.SHADOW
    assert record.failures == 1


def test_the_configuration_counts_only_where_it_is_asked() -> None:
    assert not taken(Found(record=SHADOW), None)[1].wished
    assert taken(Found(record=SHADOW), True)[1].wants_trial


records = st.sampled_from([None, SHADOW, ENFORCED, RELAXED, ON_TRIAL])


@given(records, st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.sampled_from("bc"))
def test_taking_up_twice_changes_nothing(
    record: Record | None, lost: bool, relaxed: bool, mark: bool, armed: bool, boot: str
) -> None:
    def found(of: Record | None) -> Found:
        return Found(
            record=of,
            lost=lost and of is None,
            relaxed=SAID if relaxed else None,
            relaxed_in_kernel=mark,
            armed=armed and boot == "b",  # a kernel of another boot holds nothing of ours
        )

    once = taken(found(record), False, boot)[1]
    assert taken(found(once), False, boot)[1] == once
    if relaxed or mark:
        assert once.stage is Stage.SHADOW
        assert once.relaxed
