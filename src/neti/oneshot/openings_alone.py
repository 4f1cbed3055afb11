"""What is open for a time where no agent answers: by the kernel, and by whom as the disk has it.

Must never do: change anything, or call open what the kernel, where it may be read, does not let in.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from ipaddress import ip_network

from neti.agent.keeping_time import openings_now
from neti.clock import SteadyClock, SystemClock, boot_id
from neti.dataplane.nftables import NftablesDataplane
from neti.errors import DataplaneError
from neti.model.openings import Opening
from neti.model.settings import Settings
from neti.monitoring.opened import Answer, Opened
from neti.oneshot.preview_alone import stage_in
from neti.ruleset import openings
from neti.ruleset.objects import KernelState
from neti.ruleset.set_names import OpeningSet
from neti.state.folder import StateFolder

_NO_AGENT = "the agent does not answer"


def opened(settings: Settings, machine: str) -> Answer:
    """``machine``: this one's fingerprint. Raises NetiError."""
    loaded = StateFolder(settings.table_files_path, make=False).load(machine)
    clock = SystemClock()
    steady = SteadyClock(clock, boot_id(), loaded.mark)
    known = openings_now(loaded.openings, steady)
    held = known.without(known.over(steady.now())).held
    faults = tuple(map(str, loaded.faults))
    try:
        with closing(NftablesDataplane()) as dataplane:
            kernel = dataplane.read()
    except DataplaneError:
        note = f"{_NO_AGENT}, and only root may look at the kernel: this is what the disk says"
        on_disk = tuple(_shown(one, one.until - steady.now(), steady) for one in _sorted(held))
        return Answer(stage="unknown", opened=on_disk, notes=(note, *faults))
    found, notes = in_kernel(held, kernel)
    shown = tuple(_shown(one, left, steady) for one, left in found)
    strange = tuple(_strange(found, kernel, clock.wall()))
    note = f"{_NO_AGENT}: this is what the kernel holds, and the disk says who said so"
    return Answer(stage=stage_in(kernel), opened=(*shown, *strange), notes=(note, *notes, *faults))


def in_kernel(
    held: Iterable[Opening], kernel: KernelState
) -> tuple[list[tuple[Opening, float]], list[str]]:
    """Those that the kernel lets in, whole, with the seconds that it gives them, the first to end
    first; and a sentence for each other."""
    has, found, notes = openings.held_in(kernel), [], []
    for one in _sorted(held):
        left = [_seconds(has, where, key) for where, key in _keys(one)]
        if None in left:
            notes.append(f"{one.port} to {one.to} is on disk, and not in the kernel: it is closed")
        else:
            found.append((one, float(min(filter(None, left), default=0))))
    return found, notes


def _strange(
    found: Iterable[tuple[Opening, float]], kernel: KernelState, now: float
) -> Iterator[Opened]:
    """What the kernel lets in and no opening of the disk does. ``now``: Unix seconds."""
    known = {key for one, _ in found for key in _keys(one)}
    for where, keys in sorted(openings.held_in(kernel).items()):
        for key, left in sorted(keys.items()):
            if (where, key) not in known:
                source, proto, port = key.split(" . ")
                length = where.rpartition("_")[2]
                yield Opened(
                    port=f"{port}/{proto}",
                    source=str(ip_network(f"{source}/{length}", strict=False)),
                    until=now + left,
                    seconds_left=float(left),
                    by="nobody on record",
                )


def _keys(one: Opening) -> Iterator[tuple[OpeningSet, str]]:
    for where, keys in openings.until((one,), 0.0).items():
        yield from ((where, key) for key in keys)


def _seconds(
    has: Mapping[OpeningSet, Mapping[str, int]], where: OpeningSet, key: str
) -> int | None:
    return has.get(where, {}).get(key)


def _sorted(held: Iterable[Opening]) -> list[Opening]:
    return sorted(held, key=lambda one: (one.until, one.port, str(one.source)))


def _shown(one: Opening, left: float, steady: SteadyClock) -> Opened:
    return Opened(
        port=one.port,
        source=str(one.source),
        member=one.member,
        until=steady.shown(steady.now() + left),
        seconds_left=round(max(0.0, left), 1),
        at=one.at,
        by=one.by,
    )
