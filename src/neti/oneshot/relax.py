"""``neti relax`` without an agent: the kernel first, then the disk.

Whatever is broken on this host, it has to work. It needs the kernel's netlink and no library, no
configuration and nobody else's tables; a disk that cannot be written is said, and does not stop it.

It may be repeated. Killed between the kernel and the disk: what the kernel holds is as it should
be, and the mark that is left in it is followed by the agent's next start or look.

Must never do: look at the disk before the kernel is done, let anybody in or keep anybody out but
by map ``enforce``, or import what may be missing or broken.
"""

from dataclasses import dataclass
from pathlib import Path

from neti.dataplane import way_out
from neti.errors import DataplaneError
from neti.model.said import Said
from neti.oneshot import word
from neti.state import marks
from neti.words import why


@dataclass(frozen=True, slots=True)
class Relaxed:
    """``kernel``: why it still keeps somebody out; ``disk``: why the word could not be written;
    None: all well."""

    kernel: str | None
    disk: str | None


def keeps_out() -> bool:
    """What this kernel says, whatever an agent answered. Who may not ask it is not told."""
    try:
        held = way_out.held()
    except (DataplaneError, OSError):
        return False
    return held is not None and held.drops


def is_recorded() -> bool | None:
    """Whether what would be refused is recorded now: Neti's rules are in this kernel. None: whoever
    asks may not see that."""
    try:
        return way_out.held() is not None and not way_out.has_down_mark()
    except (DataplaneError, OSError):
        return None


def relax_alone(config: Path, folder: Path, said: Said) -> Relaxed:
    """Raises nothing."""
    kernel = None
    try:
        way_out.disarm()
    except (DataplaneError, OSError) as error:
        kernel = why(error)
    return Relaxed(kernel, word.leave(config, folder, marks.RELAXED, said))
