"""What a starting process goes by: the record on disk, an operator's word, or the kernel.

The one answer for the agent, ``neti restore``, ``neti plan`` and ``neti check``.

Must never do: read a clock or a file, or open a host that the kernel enforces because a record of
it is lost or older.
"""

import enum
from dataclasses import dataclass, replace
from typing import Final

from neti.model.said import Said
from neti.stage.stages import (
    Record,
    Stage,
    Wisher,
    commanded,
    configured,
    resumed,
    unrequired,
)

# By whether the remains of the record look as if this host had been enforced.
STAGE_LOST: Final = {
    True: "this host was enforced and is now open, because stage.json cannot be used: run "
    "'neti enforce'",
    False: "this host is open and may have been enforced, because stage.json cannot be used: run "
    "'neti enforce', or 'neti relax' if it was not",
}
WITHOUT_AGENT: Final = "said while no agent ran"
AGENT_SILENT: Final = "said while the agent did not answer"


class Source(enum.Enum):
    """What counted."""

    RECORD = enum.auto()
    RELAXED_ON_DISK = enum.auto()  # 'neti relax' was said without an agent
    RELAXED_IN_KERNEL = enum.auto()  # the same, but no disk could take the word
    KERNEL_ALONE = enum.auto()  # it enforces for good, and there is no record that can be read
    KERNEL_NEWER = enum.auto()  # it enforces for good, and the record is an older one
    NOTHING = enum.auto()  # there was a record, and none of it can be used


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """``lost``: there is a record on disk that cannot be used. ``armed``: the kernel enforces for
    good; ``requires``: it refuses what is in the clear for good; ``narrows``: it has a trial of
    ``member_ports``; ``narrowed``: it keeps members out by ``member_ports`` that were in force;
    ``relaxed_in_kernel``: it has the mark that ``neti relax`` leaves."""

    record: Record | None
    lost: bool = False
    relaxed: Said | None = None
    relaxed_in_kernel: bool = False
    armed: bool = False
    requires: bool = False
    narrows: bool = False
    narrowed: bool = False


@dataclass(frozen=True, slots=True)
class TakenUp:
    record: Record
    source: Source


def source(found: Found) -> Source:
    record = found.record or Record()
    if found.relaxed is not None:
        return Source.RELAXED_ON_DISK
    if found.relaxed_in_kernel:
        return Source.RELAXED_IN_KERNEL
    if found.armed and found.record is None:
        return Source.KERNEL_ALONE
    if found.armed and record.stage is Stage.SHADOW and not record.relaxed:
        return Source.KERNEL_NEWER
    return Source.NOTHING if found.lost else Source.RECORD


def take_up(
    found: Found,
    *,
    reject_all: bool | None,
    boot: str,
    monotonic: float,
    now: float,
    left: float | None = None,
    require: bool | None = None,
) -> TakenUp:
    """``reject_all``: as the configuration says now; None: it is not asked, and the one that was
    last in force counts. A trial that is over ends here as unconfirmed. ``now``: steady seconds;
    ``left``: for how many more seconds an operator's word on disk counts (None: for good).
    ``require``: whether a pair of this host's site requires encryption (None: it is not asked)."""
    taken = _take_up(
        found, reject_all=reject_all, boot=boot, monotonic=monotonic, now=now, left=left
    )
    record = taken.record
    if found.requires and found.armed and record.confirmed:
        record = replace(record, requires=True)  # only a confirmation makes the kernel hold that
    return TakenUp(unrequired(record) if require is False else record, taken.source)


def _take_up(
    found: Found,
    *,
    reject_all: bool | None,
    boot: str,
    monotonic: float,
    now: float,
    left: float | None,
) -> TakenUp:
    why, record = source(found), found.record or Record()
    if why in (Source.KERNEL_ALONE, Source.KERNEL_NEWER):
        # The configuration says nothing new.
        by: Wisher = "configuration" if reject_all else "command"
        record = Record(configured=reject_all, wished=True, by=by, confirmed=True)
        return TakenUp(replace(record, ports_lost=found.narrowed), why)
    if why is Source.RELAXED_ON_DISK and found.relaxed is not None:
        word = found.relaxed
        at = word.at if word.at is not None else now
        record = _configured(record, reject_all)
        until = None if left is None else now + left
        by_whom = word.by or WITHOUT_AGENT
        record = commanded(record, False, at=at, by=by_whom, until=until, seconds=left)
    elif why is Source.RELAXED_IN_KERNEL:
        record = _configured(record, reject_all)
        if not record.relaxed:
            record = commanded(record, False, at=now, by=AGENT_SILENT)
    record = resumed(
        record,
        boot=boot,
        monotonic=monotonic,
        now=now,
        armed=found.armed,
        requires=found.requires,
        narrows=found.narrows,
    )
    return TakenUp(_configured(record, reject_all), why)


def _configured(record: Record, reject_all: bool | None) -> Record:
    return record if reject_all is None else configured(record, reject_all)
