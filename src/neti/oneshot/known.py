"""What disk and kernel know of this host where no agent answers. Reads.

Must never do: need more than a look.
"""

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from neti.dataplane import way_out
from neti.dataplane.way_out import Held
from neti.errors import DataplaneError, EntryError, NetiError
from neti.host.machine import switched_off
from neti.identity.machine import fingerprint
from neti.model import Member, entry
from neti.oneshot.down import is_down
from neti.oneshot.leave import has_left
from neti.stage.stages import Record
from neti.state import marks, public
from neti.state.folder import StateFolder
from neti.words import why


@dataclass(frozen=True, slots=True)
class Known:
    """``stage``: as it was last written to disk. ``kernel``: what it holds of ours; None: no table,
    or ``unseen`` says why that cannot be seen. ``off``: why Neti is switched off here. ``left``: it
    was taken out of the fleet."""

    member: Member | None
    overlay: str | None
    members: int
    stage: str | None
    down: bool
    relaxed: bool
    kernel: Held | None
    unseen: str | None
    off: str | None = None
    left: bool = False
    requires: str | None = None  # as last written to disk: "enforced" or "trial"
    faults: list[str] = field(default_factory=list)

    @property
    def table(self) -> bool | None:
        return None if self.unseen is not None else self.kernel is not None

    @property
    def drops(self) -> bool | None:
        """None where that cannot be seen."""
        return None if self.unseen is not None else self.kernel is not None and self.kernel.drops


def overlay_on_disk(folder: Path) -> str | None:
    """A lease outlives the agent. Who may not read the state finds it where everybody may."""
    overlay = None
    with suppress(NetiError, OSError):
        overlay = StateFolder(folder, make=False).load(fingerprint()).itself.overlay
    if overlay is None and os.geteuid() != 0:
        found = public.read_overlay(folder)
        overlay = None if found is None else str(found)
    return overlay


def known(folder: Path) -> Known | None:
    """None: no agent has ever run here. Raises nothing but NetiError."""
    if not folder.is_dir():
        return None
    state = StateFolder(folder, make=False)
    held = state.load(fingerprint())
    kernel, unseen = _kernel()
    return Known(
        member=_member(held.itself.entry),
        overlay=held.itself.overlay,
        members=len(held.members),
        stage=held.record.stage.value if held.record is not None else None,
        down=is_down(folder),
        relaxed=marks.present(folder, marks.RELAXED),
        kernel=kernel,
        unseen=unseen,
        off=switched_off(),
        requires=_requires(held.record),
        left=has_left(held),
        faults=[str(fault) for fault in held.faults],
    )


def _requires(record: Record | None) -> str | None:
    if record is None:
        return None
    if record.requires:
        return "enforced"
    return "trial" if record.trial is not None and record.trial.require else None


def _member(name: str | None) -> Member | None:
    try:
        found = entry.parse(name) if name is not None else None
    except EntryError:
        return None
    return found if isinstance(found, Member) else None


def _kernel() -> tuple[Held | None, str | None]:
    try:
        return way_out.held(), None
    except (DataplaneError, OSError) as error:
        return None, why(error)
