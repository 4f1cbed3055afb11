"""``neti plan``: what the agent would change in this host's kernel, found out without an agent.

The registry is only read: this host is not registered and takes no lease.

Must never do: change anything, in the kernel, on disk or in the registry.
"""

import difflib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path

from neti import __version__
from neti.agent.keeping_time import rebased
from neti.clock import SteadyClock, SystemClock, boot_id
from neti.control.aside import ASIDES
from neti.dataplane import listing
from neti.dataplane.elsewhere import listed_elsewhere, words_of
from neti.dataplane.nftables import NftablesDataplane
from neti.errors import NetiError, RegistryUnavailable
from neti.fleet.followed_groups import FollowedGroups, judged
from neti.fleet.guard import Guard
from neti.fleet.registered import answer
from neti.fleet.vouching import mode_of
from neti.host import surroundings
from neti.host.listeners import Listening
from neti.host.machine import RealMachine
from neti.host.network import Network
from neti.identity import discover, fingerprint
from neti.identity.preflight import registry_addresses
from neti.model.settings import Settings
from neti.monitoring.status import status_of
from neti.oneshot.down import is_down, is_there
from neti.oneshot.encrypting import Encrypting
from neti.oneshot.passing import gateway_end, to_be_switched_on
from neti.registry import OperatorRegistry
from neti.registry.drained import as_read
from neti.registry.opening import open_registry
from neti.registry.strict import is_strict
from neti.ruleset import openings, plan
from neti.ruleset.desired import Membership
from neti.ruleset.enforce import arming
from neti.ruleset.gateway_choice import Belief
from neti.ruleset.gateways import sent_by
from neti.ruleset.objects import NO_TABLE, KernelState, Structure
from neti.ruleset.plan import Rewrite
from neti.ruleset.policy import structure
from neti.ruleset.reach import requires
from neti.ruleset.surroundings import Surroundings
from neti.stage.stages import (
    GROUPS_MISSING,
    IS_DOWN,
    NO_WAY_IN,
    PORTS_WAIT,
    Record,
    allotted,
    in_force,
    may_begin,
    waits,
)
from neti.stage.taking_up import take_up
from neti.state.folder import StateFolder
from neti.state.loaded import Loaded
from neti.state.stage import stage_found
from neti.words import counted


@dataclass(frozen=True, slots=True)
class Difference:
    """``structure``: how much of it would be written (see ``Rewrite``), or ``down``. ``notes``:
    what else there is to say."""

    structure: str
    changes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def ruleset(settings: Settings) -> tuple[str, tuple[str, ...]]:
    """All that the kernel should hold if it were not for ``neti down``, as a file that nft -f
    takes; and what else there is to say."""
    host = _ThisHost.read(settings)
    membership, wanted, _, notes = host.desired(NO_TABLE, down=False)
    membership.elements.kernel_is(NO_TABLE)
    whole = plan.plan(
        wanted,
        membership.elements,
        NO_TABLE,
        None,
        definitions=lambda _: frozenset(),
        openings=host.left(membership),
    )
    return whole.transaction.text(), notes


def difference(settings: Settings) -> Difference:
    host, dataplane = _ThisHost.read(settings), NftablesDataplane()
    kernel = dataplane.read()
    membership, wanted, faults, notes = host.desired(kernel, down=host.down)
    if host.down:
        if not is_there():
            return Difference("down", (f"nothing to change: {IS_DOWN}",))
        taken = f"remove table inet neti, its routes and the WireGuard device: {IS_DOWN}"
        return Difference("down", (taken,))
    elements = membership.elements
    elements.kernel_is(kernel)
    seen = host.loaded.itself.structure
    left = host.left(membership)
    planned = plan.plan(
        wanted, elements, kernel, seen, definitions=dataplane.definitions, openings=left
    )
    lines = [*faults]
    lines += _structure_lines(planned.structure, wanted, kernel, dataplane)
    lines += [str(one) for one in planned.changes.commands() if kernel.structure is not None]
    if planned.structure is Rewrite.NEW:
        lines += [f"add {counted(len(membership.fleet.members), 'member')}"]
    if not planned.structure.whole:
        lines += map(str, openings.commands(left, kernel))
        lines += map(str, arming(elements.enforcement, kernel))
    notes += other_version(settings.table_files_path)
    record = host.record(kernel)
    if record.member_ports is not None and not membership.groups.known:
        notes += (GROUPS_MISSING,)
    elif waits(record, settings.member_ports):
        notes += (PORTS_WAIT,)
    if may_begin(record, host.steady.now()) and settings.way_in:
        lines.append(f"begin a trial of reject_all, {settings.trial_seconds} s")
    kept = record.wished and not settings.way_in
    if kept:
        notes += (f"reject_all is not put in force: {NO_WAY_IN}",)
    return Difference(planned.structure.value, tuple(lines), notes)


def other_version(folder: Path) -> tuple[str, ...]:
    """That the agent which keeps this kernel is of another version: its rules may well be others
    than those that this program would write, and the kernel is as that agent wants it."""
    try:
        running = status_of(ASIDES.ask(folder, "status")).version
    except NetiError:
        return ()
    if running == __version__:
        return ()
    note = (
        f"the agent is neti {running}, and this command is neti {__version__}: this is what an "
        "agent of the command's version would change. It says nothing about whether the agent that "
        "runs is in step, which 'neti check' does"
    )
    return (note,)


# What is not right of the WireGuard device and of forwarding; and what there is to say.
_Desired = tuple[Membership, Structure, tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _ThisHost:
    """What an agent left on disk here; nothing where none has run."""

    settings: Settings
    folder: StateFolder
    loaded: Loaded
    clock: SystemClock
    steady: SteadyClock

    @classmethod
    def read(cls, settings: Settings) -> "_ThisHost":
        folder = StateFolder(settings.table_files_path, make=False)
        loaded, clock = folder.load(fingerprint()), SystemClock()
        return cls(settings, folder, loaded, clock, SteadyClock(clock, boot_id(), loaded.mark))

    @property
    def down(self) -> bool:
        return is_down(self.folder.path)

    def record(self, kernel: KernelState) -> Record:
        known = self.loaded.itself.host
        taken = take_up(
            stage_found(self.folder, self.loaded, kernel),
            reject_all=self.settings.reject_all,
            boot=boot_id(),
            monotonic=self.clock.monotonic(),
            now=self.steady.now(),
            require=None if known is None else requires(self.settings.sites, known.site),
        )
        return allotted(taken.record, self.settings.member_ports)

    def left(self, membership: Membership) -> openings.Left:
        """What is open for a time, by whole seconds."""
        return openings.left(membership.elements.openings, self.clock.monotonic())

    def desired(self, kernel: KernelState, *, down: bool) -> _Desired:
        settings = self.settings
        loaded = rebased(self.loaded, self.steady)
        membership, seen, around, notes = _fleet(settings, loaded, self.steady.now())
        record = self.record(kernel)
        known = membership.groups.known  # as the agent: otherwise every member gets in
        still = loaded.openings.without(loaded.openings.over(self.steady.now())).held
        around = replace(
            around,
            member_ports=record.member_ports if known else None,
            openings=openings.lengths(still),
        )
        ahead = self.clock.monotonic() - self.steady.now()
        membership.elements.openings = openings.until(still, ahead)
        membership.take_changes()
        membership.gateways.recall(kernel)
        membership.pass_on()
        _send_as_it_is(membership, kernel)
        enforcement = in_force(
            record,
            monotonic=self.clock.monotonic(),
            way_in=settings.way_in,
            down=down,
        )
        membership.elements.enforce(enforcement)
        membership.require(enforcement.permanent and enforcement.require is None)
        membership.admit_by(around.member_ports)
        road = Encrypting.of(membership, seen, self.folder.private_key())
        faults: tuple[str, ...] = ()
        gateway = gateway_end(membership, around)
        if not down:
            faults, said = road.differences(membership, kernel.elements.get("tunneled", {}))
            notes += said
            faults = tuple(f"WireGuard: {fault}" for fault in faults)
            faults += to_be_switched_on(self.folder.path, gateway)
        wanted = structure(settings, replace(around, tunnel=road.tunnel, gateway=gateway))
        return membership, wanted, faults, notes


def _fleet(
    settings: Settings, loaded: Loaded, now: float
) -> tuple[Membership, Network, Surroundings, tuple[str, ...]]:
    host = discover(settings)
    machine = RealMachine()
    seen = machine.network(settings.overlay_subnet)
    others = machine.others_judging_input()
    around = surroundings.surroundings(machine, seen, host, others=others)
    reserved = frozenset(registry_addresses(settings, host.site))
    tls, strict = settings.registry_tls is not None, loaded.itself.strict is not None
    records = mode_of(tls=tls, strict=strict)
    membership = Membership.empty(settings, host, reserved, Guard(window=loaded.window), records)
    surroundings.note(membership.elements, host, seen, reserved)
    surroundings.listen(membership.elements, Listening(machine.listeners, machine.local_ports))
    membership.gateways.begin(loaded.itself.via, behind=loaded.itself.behind)
    membership.remember(loaded.members)  # who is lost or held stays in the kernel
    notes: tuple[str, ...] = ()
    try:
        with closing(open_registry(settings, host.site, make=False)) as registry:
            membership.hold_lease(registry.lease_of(host.id))
            _read_fleet(membership, registry, now)
            notes = _group(membership, loaded.groups, registry)
    except RegistryUnavailable as away:
        if loaded.itself.overlay is not None:
            membership.hold_lease(IPv4Address(loaded.itself.overlay))
        _group(membership, loaded.groups, None)
        notes = (f"{away}: so the members that this host knew last count",)
    return membership, seen, around, notes


def _read_fleet(membership: Membership, registry: OperatorRegistry, now: float) -> None:
    fleet = membership.fleet
    if is_strict(registry.setting("strict")):
        fleet.decide_by_records(True)
    membership.gateways.drain(as_read(registry.setting("drained")))
    membership.listed(registry.names(), now=now, doubt=None)
    asked = answer(fleet, registry.leases(), registry.records, registry.made)
    made = registry.made(asked)
    for name, data in registry.data(asked).items():
        fleet.data_read(name, data, made.get(name, 0))
    fleet.tick(now=now)


def _group(
    membership: Membership, followed: FollowedGroups | None, registry: OperatorRegistry | None
) -> tuple[str, ...]:
    """As the agent that followed these; ``registry`` None: it does not answer. Returns why it goes
    on following them."""
    now, why = SystemClock().wall(), None
    if registry is not None:
        followed, why = judged(
            followed,
            registry.setting("groups"),
            registry.fleet(),
            members=membership.fleet.members.values(),
            needed=membership.needed_groups,
            now=now,
        )
    membership.take_changes()
    membership.group_members(followed.groups if followed is not None else None, now)
    return () if why is None else (why,)


def _send_as_it_is(membership: Membership, kernel: KernelState) -> None:
    """Only the agent knows which gateways answer. So one to which the kernel sends nothing is not
    sent to, as by an agent that starts now."""
    places, _ = membership.gateways.sent_to
    if held := sent_by(kernel):
        used = frozenset(one for one, to in places.items() if str(to) in held)
        unused = frozenset(places.keys() - used)
        membership.gateways.believe(Belief(unused, used, presumed=unused))
        membership.pass_on()


def _structure_lines(
    kind: Rewrite, wanted: Structure, kernel: KernelState, dataplane: NftablesDataplane
) -> list[str]:
    """How rules and sets differ: what is there, and what would be, both as nft says it."""
    if kind is Rewrite.NOTHING:
        return []
    if kernel.structure is None:
        return ["create table inet neti and the overlay's route"]
    desired = listed_elsewhere(wanted)
    if desired is None:
        return [f"replace {'the chains' if kind is Rewrite.CHAINS else 'the whole table'}"]
    held = kernel.structure.splitlines()
    diff = difflib.unified_diff(held, desired.lines, "kernel", "desired", lineterm="")
    words = {"-": words_of(dataplane, held), "+": desired.words}
    words[" "] = words["+"]
    shown = [_shown(line, words) for line in diff]
    return shown or ["replace the table with an identical one, because its author is unknown"]


def _shown(line: str, words: Mapping[str, Mapping[str, str]]) -> str:
    """Where nft's words are not known, or are the same for two that differ: a fingerprint."""
    if line.startswith(("---", "+++", "@@")):
        return line
    sign, text = line[0], line[1:]
    said = words[sign].get(text)
    if not listing.is_rule(text):
        return sign + (said or " ".join(text.split()[:2]))
    if said is None:
        return f"{sign}    {listing.fingerprint(text)}"
    chain = text.split()[1]
    alike = sign != " " and any(
        other_said == said and other != text and other.split()[1] == chain
        for other, other_said in words["-" if sign == "+" else "+"].items()
        if listing.is_rule(other)
    )
    return f"{sign}    {said}" + (f"  # {listing.fingerprint(text)}" if alike else "")
