"""``neti restore``: the last good state into the kernel at boot, before the network is up.

Rules are drawn anew from the present configuration; members and the stage come from disk. Neither
the registry nor the metadata service is asked. The route has to wait for the agent: it cannot
exist before the address that it names. Where a site encrypts, the WireGuard device comes first,
with its peers, and then the table that leads to it.

Where the table is there already (by hand, over rules that are in force) and the files are not
whole, what the kernel holds counts, as for a starting agent.

Must never do: arm a trial, or enforce while nothing is known of the members.
"""

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path

from neti.agent.conntrack import Tracking
from neti.agent.keeping_time import openings_now
from neti.agent.open_sessions import last_good_instead
from neti.clock import SteadyClock, SystemClock, boot_id
from neti.dataplane.conntrack import Conntrack, load_tracking
from neti.dataplane.conntrack_limit import ConntrackLimit
from neti.dataplane.nftables import NftablesDataplane
from neti.dataplane.reconciler import Reconciler
from neti.errors import NetiError
from neti.host import surroundings
from neti.host.listeners import Listening
from neti.host.machine import Machine, RealMachine, switched_off
from neti.host.network import Network
from neti.host.ssh_session import open_sessions
from neti.identity import discover, fingerprint
from neti.identity.preflight import registry_addresses
from neti.identity.source import Identity, SourceSilent
from neti.model import Host, IPAddress
from neti.model.groups import MemberPorts
from neti.model.problems import Problems
from neti.model.settings import DEFAULT_STATE, Settings, StaticIdentity
from neti.oneshot.down import is_down
from neti.oneshot.encrypting import Encrypting
from neti.oneshot.passing import gateway_end, switched_on
from neti.ruleset import openings
from neti.ruleset.delta import Elements
from neti.ruleset.desired import Membership
from neti.ruleset.enforce import RELAXED, Enforcement
from neti.ruleset.objects import KernelState
from neti.ruleset.openings import Lengths
from neti.ruleset.policy import structure
from neti.ruleset.surroundings import Surroundings
from neti.stage.stages import GROUPS_MISSING, IS_DOWN, Record, hindrance, in_force
from neti.stage.taking_up import STAGE_LOST, Source, take_up
from neti.state.folder import StateFolder
from neti.state.last_good import last_good_is_used, load_or_last_good
from neti.state.loaded import Loaded, StateError
from neti.state.lock import only_one
from neti.state.stage import stage_found


@dataclass(frozen=True, slots=True)
class Restored:
    """``reason``: why nothing was loaded; None: it was. ``notes``: what there is to be said."""

    reason: str | None
    members: int = 0
    stage: str = "shadow"
    peers: int = 0  # of WireGuard
    notes: tuple[str, ...] = ()


def restore_last(config: Path, state: Path = DEFAULT_STATE) -> Restored:
    """``state``: where to look for the last good configuration when ``config`` is not valid.

    Raises NetiError when it cannot be done; the kernel is then as it was.
    """
    if (reason := switched_off()) is not None:
        return Restored(f"Neti is switched off on this machine ({reason})")
    settings, refused = load_or_last_good(config, state)
    notes = [] if refused is None else [last_good_is_used(refused)]
    if not settings.table_files_path.is_dir():
        return Restored(f"{settings.table_files_path} does not exist: no agent has run here yet")
    folder = StateFolder(settings.table_files_path)
    if is_down(folder.path):
        return Restored(IS_DOWN)
    with only_one(folder.path):
        loaded = folder.load(fingerprint())
        notes += loaded.faults
        if loaded.foreign:
            return Restored(loaded.faults[0])
        if refused is None:
            instead = last_good_instead(settings, folder.good_config, loaded, open_sessions)
            if instead is not None:
                settings, why = instead
                notes.append(why)
        return _load(settings, folder, loaded, notes)


def _load(settings: Settings, folder: StateFolder, loaded: Loaded, notes: list[str]) -> Restored:
    host = _host(settings, folder, loaded, notes)
    reconciler = _reconciler(loaded)
    kernel = reconciler.read()
    reserved, machine = _reserved(settings, host), RealMachine()
    members = _remembered(settings, host, reserved, loaded)
    count = len(members.fleet.members)
    adopted = not loaded.members and bool(kernel.elements.get("overlay"))
    if adopted:
        count = len(kernel.elements["overlay"])
        notes.append("no members are on disk, so those in the kernel stay")
    enforcement, ports = _in_force(settings, folder, loaded, kernel, notes, known=count > 0)
    members.admit_by(ports)
    if adopted:  # after the sets of all groups that are looked at
        members.adopt(kernel, via=loaded.itself.via, behind=loaded.itself.behind)
    members.take_changes()
    members.pass_on()
    members.elements.enforce(enforcement)
    members.require(enforcement.permanent and enforcement.require is None)
    problems = Problems()
    tracking = Tracking(ConntrackLimit(folder.path, load=load_tracking), problems)
    tracking.raise_to(settings.conntrack_max)
    notes += [*tracking.notes, *map(str, problems)]
    seen = machine.network(settings.overlay_subnet)
    road, peers = Encrypting.of(members, seen, folder.private_key()), 0
    if not adopted:  # otherwise the device too is what it was
        peers, said = road.restore(members, kernel.elements.get("tunneled", {}))
        notes += said
    now = _surroundings(machine, seen, host, loaded)
    gateway = gateway_end(members, now)
    still = _still_open(members.elements, loaded)
    now = replace(now, tunnel=road.tunnel, gateway=gateway, member_ports=ports, openings=still)
    surroundings.note(members.elements, host, seen, reserved)
    surroundings.listen(members.elements, Listening(machine.listeners, machine.local_ports))
    if not seen.had_connections():
        reconciler.expect_no_older_connections()
    reconciler.resync(structure(settings, now), members.elements)
    notes += switched_on(folder.path, gateway, seen.uplinks(host.private))
    if reconciler.seen is not None:
        itself = replace(
            loaded.itself,
            structure_text=reconciler.seen.digest,
            structure_seen=reconciler.seen.listing,
        )
        try:
            folder.save_self(itself)
        except StateError as error:
            notes.append(str(error))
    stage = "enforced" if enforcement else "shadow"
    return Restored(None, count, stage, peers, tuple(notes))


def _in_force(
    settings: Settings,
    folder: StateFolder,
    loaded: Loaded,
    kernel: KernelState,
    notes: list[str],
    *,
    known: bool,
) -> tuple[Enforcement, MemberPorts]:
    """What was last in force, where nothing is in the way. A trial is not begun again."""
    clock = SystemClock()
    now = clock.monotonic()
    found = stage_found(folder, loaded, kernel)
    taken = take_up(found, reject_all=None, boot=boot_id(), monotonic=now, now=clock.wall())
    record = replace(taken.record, trial=None)
    if taken.source is Source.NOTHING:
        notes.append(STAGE_LOST[loaded.enforced_once])
    before = found.record or Record()
    if before.confirmed and taken.source in (Source.RELAXED_ON_DISK, Source.RELAXED_IN_KERNEL):
        notes.append("'neti relax' was run while no agent could record it: not enforced")
    why = hindrance(way_in=settings.way_in, down=False, known=known)
    if record.confirmed and why is not None:
        notes.append(f"this host was enforced, but is not now: {why}")
    enforcement = in_force(record, monotonic=now, way_in=settings.way_in, down=False, known=known)
    if kernel.relaxed_by_hand and not enforcement:
        enforcement = RELAXED
    if record.member_ports is not None and loaded.groups is None:
        notes.append(GROUPS_MISSING)
        return enforcement, None
    return enforcement, record.member_ports


def _remembered(
    settings: Settings, host: Host, reserved: frozenset[IPAddress], loaded: Loaded
) -> Membership:
    """The members and groups that are on disk, and this host's own lease."""
    members = Membership.empty(settings, host, reserved)
    if loaded.groups is not None:
        members.group_members(loaded.groups.groups, SystemClock().wall())
    members.remember(loaded.members)
    if loaded.itself.overlay is not None:
        overlay = IPv4Address(loaded.itself.overlay)
        if overlay in settings.overlay_subnet:
            members.hold_lease(overlay)
    return members


def _reconciler(loaded: Loaded) -> Reconciler:
    return Reconciler(NftablesDataplane(), Conntrack(), loaded.itself.structure, SystemClock())


def _still_open(elements: Elements, loaded: Loaded) -> Lengths:
    """What was open for a time, for what is left of it. Returns what the rules have to look at."""
    clock = SystemClock()
    steady = SteadyClock(clock, boot_id(), loaded.mark)
    found = openings_now(loaded.openings, steady)
    still = found.without(found.over(steady.now())).held
    elements.openings = openings.until(still, clock.monotonic() - steady.now())
    return openings.lengths(still)


class _Silent:
    """Nobody can be asked before the network is up."""

    def read(self) -> Identity:
        raise SourceSilent("the metadata service is not asked")


def _host(settings: Settings, folder: StateFolder, loaded: Loaded, notes: list[str]) -> Host:
    if isinstance(settings.identity, StaticIdentity):
        return discover(settings)
    if loaded.itself.host is not None:
        return loaded.itself.host
    heard: list[str] = []
    try:
        host = discover(settings, cache_dir=folder.path, source=_Silent(), notice=heard.append)
    except SourceSilent:
        why = [*loaded.faults, *heard] or ["no agent has registered this host yet"]
        unknown = f"{folder.path} does not say who this host is"
        raise NetiError(f"{unknown}: {'; '.join(why)}") from None
    notes += heard
    return host


def _reserved(settings: Settings, host: Host) -> frozenset[IPAddress]:
    return frozenset(registry_addresses(settings, host.site, resolve=_literally))


def _literally(name: str) -> list[IPAddress]:
    """No resolver can be asked before the network is up."""
    try:
        return [ip_address(name)]
    except ValueError:
        return []


def _surroundings(machine: Machine, seen: Network, host: Host, loaded: Loaded) -> Surroundings:
    """As they were last; the agent looks again. Other tables may not be loaded yet, so SSH is
    untracked only if it was so before and nobody judges input now."""
    now = surroundings.surroundings(machine, seen, host, others=machine.others_judging_input())
    # Interfaces that are not there yet are known from disk alone.
    uplinks = tuple(dict.fromkeys((*loaded.itself.uplinks, *now.uplinks)))
    untracked = loaded.itself.ssh_untracked and now.ssh_untracked
    return replace(now, uplinks=uplinks, ssh_untracked=untracked)
