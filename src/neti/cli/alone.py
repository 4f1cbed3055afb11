"""What ``neti status`` says where no agent answers: what disk and kernel know of this host.

Reads. Must never do: pass for what an agent would say, or need more than a look.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neti.dataplane import way_out
from neti.errors import DataplaneError, EntryError
from neti.host.machine import switched_off
from neti.identity.machine import fingerprint
from neti.model import Member, entry
from neti.state import marks
from neti.state.folder import StateFolder
from neti.words import counted


@dataclass(frozen=True, slots=True)
class Known:
    """``stage``: as it was last written to disk; ``kernel``: what it does to strangers, in words.
    ``drops``: None where that cannot be seen."""

    member: Member | None
    overlay: str | None
    members: int
    stage: str | None
    down: bool
    relaxed: bool
    table: bool | None
    drops: bool | None
    kernel: str
    off: str | None = None
    faults: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Nested, so that none of it is taken for an agent's answer."""
        return {
            "on_disk": {
                "id": self.member.id if self.member else None,
                "site": self.member.site if self.member else None,
                "overlay": self.overlay,
                "members": self.members,
                "stage": self.stage,
                "down": self.down,
                "relaxed": self.relaxed,
                "faults": self.faults,
            },
            "in_kernel": {"table": self.table, "drops": self.drops},
        }

    def lines(self) -> list[str]:
        who = f"{self.member.id} in site {self.member.site}" if self.member else "not known"
        said = " (but 'neti relax' was said without it)" if self.relaxed else ""
        said += " ('neti down' was said)" if self.down else ""
        return [
            "This is what disk and kernel know without the agent:",
            f"host      {who}",
            f"overlay   {self.overlay or 'none yet'}",
            f"members   {counted(self.members, 'member')}, as last written to disk",
            f"stage     {self.stage or 'nothing was ever decided here'}, as last written{said}",
            f"kernel    {self.kernel}",
            *([f"note      {self.off}"] if self.off else []),
            *(f"problem   {fault}" for fault in self.faults),
        ]


def known(folder: Path) -> Known | None:
    """None: no agent has ever run here. Raises nothing but NetiError."""
    if not folder.is_dir():
        return None
    state = StateFolder(folder, make=False)
    held = state.load(fingerprint())
    table, drops, kernel = _kernel()
    return Known(
        member=_member(held.itself.entry),
        overlay=held.itself.overlay,
        members=len(held.members),
        stage=held.record.stage.value if held.record is not None else None,
        down=marks.present(folder, marks.DOWN),
        relaxed=marks.present(folder, marks.RELAXED),
        table=table,
        drops=drops,
        kernel=kernel,
        off=switched_off(),
        faults=[str(fault) for fault in held.faults],
    )


def _member(name: str | None) -> Member | None:
    try:
        found = entry.parse(name) if name is not None else None
    except EntryError:
        return None
    return found if isinstance(found, Member) else None


def _kernel() -> tuple[bool | None, bool | None, str]:
    try:
        held = way_out.held()
    except (DataplaneError, OSError) as error:
        return None, None, f"cannot be read: {error}"
    if held is None:
        return False, False, "table inet neti is not there: nothing is dropped"
    if not held.drops:
        return True, False, "nothing is dropped"
    end = "until the trial ends by itself" if held.trial else "for good"
    return True, True, f"what no rule lets in is dropped, {end}"
