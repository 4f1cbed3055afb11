"""``neti relax`` and ``neti down`` without an agent: the kernel first, then the disk.

Whatever is broken on this host, these two have to work. They need the kernel's netlink and no
library, no configuration and nobody else's tables; a disk that cannot be written is said, and does
not stop them.

Each step may be repeated. Killed between the kernel and the disk: what the kernel holds is as it
should be, and the mark that ``relax`` leaves in it is followed by the agent's next start or look.

Must never do: look at the disk before the kernel is done, let anybody in or keep anybody out but
by map ``enforce``, or import what may be missing or broken.
"""

from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from neti.dataplane import way_out
from neti.errors import DataplaneError
from neti.model.said import Said
from neti.state import marks


@dataclass(frozen=True, slots=True)
class Done:
    """``kernel``: why the kernel does not hold what it should; ``disk``: why the word could not be
    written; None: all well. ``there``: whether there was anything of ours in the kernel. ``led``:
    where the routes led that were taken out."""

    there: bool
    kernel: str | None = None
    disk: str | None = None
    led: tuple[IPv4Network, ...] = ()


def relax_alone(folder: Path, said: Said) -> Done:
    """Raises nothing."""
    there, kernel = False, None
    try:
        there = way_out.disarm()
    except (DataplaneError, OSError) as error:
        kernel = str(error)
    return Done(there, kernel, _left(folder, marks.RELAXED, said))


def down_alone(folder: Path, said: Said) -> Done:
    """Raises nothing. Where the word cannot be written, an empty table that judges nothing says it
    until the next boot."""
    there, kernel = False, list[str]()
    led: tuple[IPv4Network, ...] = ()
    try:
        there = way_out.remove_table()
    except (DataplaneError, OSError) as error:
        kernel.append(f"table inet neti could not be taken out: {error}")
    try:
        led = tuple(way_out.remove_routes())
    except (DataplaneError, OSError) as error:
        kernel.append(f"the overlay's route could not be taken out: {error}")
    disk = _left(folder, marks.DOWN, said)
    if disk is not None and there:
        try:
            way_out.leave_down_mark()
        except (DataplaneError, OSError) as error:
            kernel.append(f"an agent that wakes may write to the kernel again: {error}")
    return Done(there or bool(led), "; ".join(kernel) or None, disk, led)


def _left(folder: Path, mark: str, said: Said) -> str | None:
    try:
        marks.leave(folder, mark, said)
    except OSError as error:
        return f"{folder / mark}: {error.strerror or error}"
    return None
