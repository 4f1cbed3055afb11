"""``neti down`` without an agent, and what only root can do beside one.

Whatever is broken on this host, it has to work: see ``neti.oneshot.relax``. Each step may be
repeated.

Must never do: look at the disk before the kernel is done, or import what may be missing or broken
before the rules are gone.
"""

import contextlib
import os
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from neti.dataplane import way_out
from neti.errors import DataplaneError
from neti.model.said import Said
from neti.oneshot import word
from neti.state import marks
from neti.state.location import is_plain
from neti.words import why


@dataclass(frozen=True, slots=True)
class Down:
    """``kernel``: why something of ours may still be there; ``disk``: why the word could not be
    written; None: all well. ``notes``: what else was not done."""

    kernel: str | None
    disk: str | None
    notes: tuple[str, ...] = ()


def is_there() -> bool:
    """Whether this kernel holds more of ours than the word "down", whatever an agent answered. Who
    may not ask it is not told."""
    try:
        return way_out.held() is not None and not _mark_in_kernel()
    except (DataplaneError, OSError):
        return False


def is_down(folder: Path) -> bool:
    """Whether ``neti down`` is in force: the word is on disk, or where no disk took it, in the
    kernel."""
    return marks.present(folder, marks.DOWN) or _mark_in_kernel()


def _mark_in_kernel() -> bool:
    try:
        return way_out.has_down_mark()
    except (DataplaneError, OSError):
        return False


def down_alone(config: Path, folder: Path, said: Said) -> Down:
    """Raises nothing. Where the word cannot be written, an empty table that judges nothing says it
    until the next boot."""
    kernel = list[str]()
    led: tuple[IPv4Network, ...] = ()
    # Before the table: nothing may be passed on without the rules that say what.
    notes = put_forwarding_back(folder)
    try:
        way_out.remove_table()
    except (DataplaneError, OSError) as error:
        kernel.append(f"table inet neti could not be taken out: {why(error)}")
    try:
        led = tuple(way_out.remove_routes())
    except (DataplaneError, OSError) as error:
        kernel.append(f"the overlay's route could not be taken out: {why(error)}")
    try:
        way_out.remove_rules()
        way_out.remove_device()
    except (DataplaneError, OSError) as error:
        kernel.append(f"the WireGuard device and its rule could not be taken out: {why(error)}")
    disk = word.leave(config, folder, marks.DOWN, said)
    if disk is not None:  # also where the table is gone already: an agent would make it anew
        try:
            way_out.leave_down_mark()
        except (DataplaneError, OSError) as error:
            kernel.append(f"an agent that wakes may write to the kernel again: {why(error)}")
    notes = (*notes, *(() if kernel else _end_connections(config, led)))
    name_nobody(folder)
    return Down("; ".join(kernel) or None, disk, notes)


def name_nobody(folder: Path) -> None:
    """A resolver may serve the names, and they lead nowhere from here. No reason to fail."""
    with contextlib.suppress(Exception):
        from neti.control.protocol import RUN
        from neti.state import hosts_file

        hosts_file.empty(hosts_file.place(folder, RUN))


def _end_connections(config: Path, led: tuple[IPv4Network, ...]) -> tuple[str, ...]:
    """The kernel would go on translating what it tracks without any rule. Best done, and no
    reason to fail: the rules are gone."""
    try:
        from neti.dataplane.conntrack import Conntrack

        connections = Conntrack()
        for overlay in led:
            connections.end_stale(overlay, lambda _: None)
        outside = _overrides(config, led)
        if outside:
            connections.end_connections_to(outside)
    except Exception as error:  # whatever it is, the host is down as asked
        return (f"connections by overlay addresses were not ended: {why(error)}",)
    return ()


def _overrides(config: Path, led: tuple[IPv4Network, ...]) -> list[IPv4Address]:
    if not is_plain(config):
        return []
    try:
        from neti.state.last_good import load_or_last_good

        settings, _ = load_or_last_good(config)
    except Exception:  # a broken file, or a broken library that reads it, keeps nobody from down
        return []
    return [a for a in settings.nat_overrides if not any(a in overlay for overlay in led)]


def put_forwarding_back(folder: Path) -> tuple[str, ...]:
    """Where an agent switched it on. Sentences about what was not done."""
    try:
        from neti.dataplane.forwarding import Forwarding

        Forwarding(folder).put_back()
    except Exception as error:  # as below: it is said, and the host is down as asked
        return (f"forwarding is not switched off: {why(error)}",)
    return ()


def put_conntrack_max_back(folder: Path) -> tuple[str, ...]:
    """As root, because an agent of its own user cannot; where it could, nothing is left to do.
    Sentences about what was not done."""
    if os.geteuid() != 0:
        return ()
    try:
        from neti.dataplane.conntrack_limit import ConntrackLimit

        return ConntrackLimit(folder).put_back()
    except Exception as error:  # as above: it is said, and the host is down as asked
        return (why(error),)
