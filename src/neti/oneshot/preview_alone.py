"""``neti preview`` without an agent: what it last wrote to disk, and what the kernel has counted
since then, where this process may look.

Must never do: write anything.
"""

from contextlib import closing

from neti.agent import shadow_log
from neti.agent.preview import (
    finished,
    may_be_lost,
    seen_here,
    site_networks,
    sources_of,
    whose,
)
from neti.clock import SteadyClock, SystemClock, boot_id
from neti.dataplane.nftables import NftablesDataplane
from neti.errors import DataplaneError, EntryError
from neti.host.listeners import listeners
from neti.model import IPAddress, Member, entry
from neti.model.settings import Settings
from neti.monitoring.preview import Preview
from neti.ruleset.objects import KernelState
from neti.stage.preview import View, open_entry, opened_by, way_in_by
from neti.stage.record import Record
from neti.state.folder import StateFolder
from neti.state.loaded import Loaded


def alone(settings: Settings, machine: str, *, everything: bool) -> Preview:
    """``machine``: this one's fingerprint. Raises NetiError."""
    folder = settings.table_files_path
    loaded = StateFolder(folder, make=False).load(machine)
    steady = SteadyClock(SystemClock(), boot_id(), loaded.mark)
    record, faults = shadow_log.read_alone(folder, machine, steady)
    now = steady.now()
    stage, peers, note = _look_at_kernel(record, now)
    accepted, more = may_be_lost(folder)
    members, site = _remembered(loaded)

    def admitted(address: IPAddress) -> bool | None:
        return None if peers is None else str(address) in peers

    view = View(
        listening=tuple(listeners()),
        members=whose(
            members, "", sources_of(record), admitted, seen_here(settings, site or settings.site)
        ),
        site=site_networks(settings, site or settings.site or ""),
        accepted=accepted,
        opened=opened_by(settings),
        way_in=way_in_by(settings),
        trusted=settings.trusted,
        now=now,
    )
    head = Preview(
        agent=False,
        stage=stage,
        faults=(*faults, *more),
        notes=(note,) if note else (),
        open_ports=tuple(map(open_entry, settings.open_ports)),
        since=0.0,
        now=0.0,
    )
    return finished(head, record, view, steady.shown(0.0), everything=everything)()


def _look_at_kernel(
    record: Record, now: float
) -> tuple[str | None, frozenset[str] | None, str | None]:
    """The stage and the addresses let in as peers, None where this process may not look; and what
    else there is to say."""
    try:
        with closing(NftablesDataplane()) as dataplane:
            state, seen = dataplane.read(), dataplane.sightings()
    except DataplaneError:
        return None, None, None
    record.take(seen, now)
    note = shadow_log.uncounted(seen)
    peers = frozenset({*state.elements.get("peers4", ()), *state.elements.get("peers6", ())})
    return stage_in(state), peers, note


def stage_in(kernel: KernelState) -> str:
    if kernel.structure is None:
        return "down"
    if kernel.armed_for_good:
        return "enforced"
    return "trial" if kernel.armed else "shadow"


def _remembered(loaded: Loaded) -> tuple[list[Member], str | None]:
    """The members on disk, and this host's own site when it has been registered."""
    members = []
    for held in loaded.members.values():
        member = _parsed(held.name)
        if member is not None:
            members.append(member)
    own = _parsed(loaded.itself.entry) if loaded.itself.entry else None
    return members, own.site if own is not None else None


def _parsed(name: str) -> Member | None:
    try:
        parsed = entry.parse(name)
    except EntryError:
        return None
    return parsed if isinstance(parsed, Member) else None
