"""After everything works again and time has passed: registry = belief = kernel = disk = what is
shown."""

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Final

from neti.dataplane.wireguard.road import Road
from neti.fleet.groups import GroupIndex
from neti.model import Encrypt
from neti.registry.detail import decode
from neti.registry.groups import decode as decode_groups
from neti.registry.memory import MemoryRegistry
from neti.state.folder import KEY_FILE, StateFolder
from neti.state.loaded import Loaded
from simulation import (
    doors,
    gateway_acts,
    gateways,
    group_acts,
    invariants,
    name_acts,
    name_invariants,
    operator_acts,
    registry_acts,
    retire_acts,
)
from simulation.acts import TRIAL, Stage
from simulation.host import SimulatedHost
from simulation.invariants import Fault
from simulation.told import Told, differing, told_by
from simulation.truth import Truth
from simulation.world import HOLD_SECONDS, World

_PROVED_WITHIN: Final = 90  # seconds
_LONG: Final = (61.0, 61.0, 700.0, 700.0, 61.0)
# Rightly named until the agent is restarted, or an operator says more; simulated hosts have no
# certificates.
_STAY: Final = frozenset(
    {
        "certificate",
        "lease_changed",
        "stage_adopted",
        "relaxed",
        "key_taken",
        "record_full",
        "record_crowded",
        "member_ports_wait",
        "encryption_not_in_effect",
    }
)


def note_words(world: World, truth: Truth) -> None:
    """At rest: who is enforced now, and is told so, must not be open later without a word."""
    for host in world.hosts:
        if not host.answers or host.agent is None or host.late:
            continue
        word = truth.of(host)
        word.torn = False
        core = host.agent.core
        if not core.disk.behind and host.caught_up:
            host.unsaved.clear()
            host.unwritten.clear()
        enforced = host.kernel.stage == "enforced" and core.stage.word == "enforced"
        if enforced and not core.disk.behind and not host.disk.lying and not host.unread:
            if word.damaged:
                word.damaged = not (host.caught_up and acts_on_disk(host))
            word.enforced = not word.damaged
            # A reload that would end it is refused, but the next start goes by the file.
            asked = core.settings.sites == host.settings.sites
            word.requires = word.enforced and core.stage.requires and asked
            ports = core.settings.member_ports
            if word.enforced and core.stage.ports == "in force":
                word.ports = ports if ports == host.settings.member_ports else word.ports


def acts_on_disk(host: SimulatedHost) -> bool:
    """Whether the disk says what this agent decided."""
    agent = host.agent
    return agent is not None and _on_disk(host).record == agent.core.stage.record


def faults(stage: Stage, story: list[str]) -> Iterator[Fault]:
    """Everything works again; what is wrong after that."""
    world, truth = stage.world, stage.truth
    _everything_works(stage)
    for _ in range(_PROVED_WITHIN):
        if not any(h.agent is not None and h.agent.following.proving.goes_on for h in world.hosts):
            break
        world.pass_time(1.0)  # a few records each second, and a leap counts as one
    for seconds in _LONG:
        world.pass_time(seconds)
        truth.look(world)
        yield from invariants.after_step(world, truth)
        yield from invariants.at_rest(world, truth)
        note_words(world, truth)
    yield from _goodbye(stage, story)
    for host in _running(world):
        status = host.status()
        if status is None:
            continue
        if status.holds:
            story.append(f"{host.label}: release")
            operator_acts.release(stage, host)
        codes = {one.code for one in status.problems}
        if "stage_lost" in codes and truth.of(host).lied:  # only an operator knows what it was
            story.append(f"{host.label}: relax")
            operator_acts.relax(stage, host)
        if "forwarding_not_noted" in codes:  # as its sentence says
            story.append(f"{host.label}: the note of what forwards is removed, and nothing does")
            host.disk.files.pop("forwarding.json", None)
            host.machine.interfaces_.forwarded = False
        if {"trial_expired", "member_ports_lost"} & codes:
            story.append(f"{host.label}: enforce once more")
            # A trial of encryption alone: ports that strangers tried before are no reason.
            anyway = host.kernel.stage == "enforced"
            answer = host.ask("enforce", seconds=TRIAL, wait=False, anyway=anyway)
            if "result" not in answer:
                operator_acts.relax(stage, host)
    world.pass_time(TRIAL + 2.0)
    world.pass_time(61.0)
    truth.look(world)
    yield from invariants.at_rest(world, truth)
    yield from _agree(stage)


def _running(world: World) -> list[SimulatedHost]:
    return [host for host in world.hosts if host.runs]


def _everything_works(stage: Stage) -> None:
    world = stage.world
    made_up = [n for n in world.server._names if ".fake-" in n or ".liar-" in n]
    for name in (*registry_acts.JUNK, *made_up, *registry_acts.forged(world)):
        world.server.remove(name)
    stage.fakes.clear()
    for host in list(world.hosts):
        if "'" in host.label:  # somebody has found the copy
            host.kill()
            world.hosts.remove(host)
    world.registry_back()
    world.udp_blocked = False
    for host in world.hosts:
        host.go_on()
        host.late = False
        host.users.there = False
        host.sessions.clear()
        host.disk.works_again()
        host.tunnel.works_again()
        host.metadata.works_again()
        host.kernel.failing = host.kernel.rules_refused = None
        host.machine.tables.clear()
        host.gate.disarm()
        if not host.settings.ssh_whitelist:
            operator_acts.whitelist(stage, host, True)
        host.reach_again()
        if not host.runs and any(m.id == host.id for m in operator_acts.registered(world)):
            host.start()
        if host.runs:
            operator_acts.up(stage, host)
            host.ask("reload", anyway=True)  # one that ends encryption is refused without
    world.settle()
    retire_acts.back_again(stage)
    if any(strict_here(host) for host in _running(world)):
        # Where the registry forgot it, an operator says it again.
        world.server._settings.pop("strict", None)
        registry_acts.strict_on(stage)
    if any(_without_groups(host) for host in _running(world)):
        group_acts.groups_again(stage)
    name_acts.names_again(stage)
    for host_id in sorted(one for ids in world.gateways.values() for one in ids):
        gateway_acts.drained(world, host_id, False)
    world.settle()


def _without_groups(host: SimulatedHost) -> bool:
    core = host.agent.core if host.agent is not None else None
    return core is not None and bool(
        "groups_held" in core.problems or core.members.groups.undefined
    )


def strict_here(host: SimulatedHost) -> bool:
    return host.agent is not None and host.agent.core.members.fleet.records == "strict"


def _goodbye(stage: Stage, story: list[str]) -> Iterator[Fault]:
    """Whatever is held from before, one host that leaves is let go of by everybody."""
    world, truth = stage.world, stage.truth
    named = {one for ids in world.gateways.values() for one in ids}  # their site needs them
    running = [
        host
        for host in _running(world)
        if host.id not in named and (said := host.status()) is not None and said.registered
    ]
    if len(running) < 5:
        return
    host = running[0]
    mine = truth.leases.get(host.id)
    story.append(f"{host.label}: leaves")
    operator_acts.leave(stage, host)
    world.pass_time(3.0)
    truth.look(world)
    for other in running[1:]:
        table = other.kernel.table
        if host.id not in truth.left or table is None:
            continue
        if mine in table.elements.get("overlay", {}):
            yield Fault("goodbyes", other.label, f"{host.id} left, and is held beside others")


def _groups(world: World, host: SimulatedHost) -> Iterator[Fault]:
    """Agent and disk follow what stands in the registry, and the index is of this moment."""
    raw = MemoryRegistry(world.server).setting("groups")
    agent = host.agent
    if raw is None or agent is None:
        return
    said, followed = decode_groups(raw), agent.core.grouping.followed
    if followed is None or followed.groups != said:
        yield Fault("groups", host.label, f"it follows {followed}, the registry says {said}")
    if (kept := _on_disk(host).groups) != followed:
        yield Fault("groups", host.label, f"it follows {followed}, the disk has {kept}")
    members = agent.core.members
    wanted = GroupIndex(said, members.needed_groups, host.clock.wall())
    if moved := members.groups.moved(wanted, members.fleet.members.values()):
        yield Fault("groups", host.label, f"{[one.id for one in moved]} are in other groups")


def _on_disk(host: SimulatedHost) -> Loaded:
    with doors.at(host):
        return StateFolder(host.settings.table_files_path).load(host.machine_id)


def _stays(host: SimulatedHost, code: str) -> bool:
    match code:
        case "origin":
            return _doubts_still(host)
        case "encryption_not_strict":  # an operator turned strict off
            return not strict_here(host)
        case "gateways_gone" | "encryption_silent":
            return any(not _has_gateway(host.world, site) for site in host.world.gateways)
        case _:
            return code in _STAY


def _doubts_still(host: SimulatedHost) -> bool:
    """A doubt about the registry that concerned nobody is named for as long as a hold lasts."""
    agent = host.agent
    since = agent.following.doubted_at if agent is not None else None
    return agent is not None and since is not None and agent.core.since() - since < HOLD_SECONDS


def _tunnel(world: World, host: SimulatedHost, told: Told) -> Iterator[Fault]:
    """Each two hosts of two sites have each other as peers, and send through the tunnel."""
    table, device = host.kernel.table, host.tunnel.device()
    peers = {} if device is None else device.peers
    owners = {key: one.peer.allowed for key, one in peers.items()}
    if world.encrypt is Encrypt.OFF:
        if device is not None or host.tunnel.links.held != Road(None):
            yield Fault(
                "tunnel", host.label, "nothing is encrypted, and there is a device or a rule"
            )
        return
    if host.kernel.stage == "down" or table is None:
        return
    for other in _running(world):
        if other.host.site == host.host.site or other.kernel.stage == "down":
            continue
        overlay, public = told.members[other.id].overlay, other.tunnel.device_.public
        if public is None or owners.get(public) != frozenset({IPv4Network(overlay)}):
            yield Fault("tunnel", host.label, f"its device has no peer for {other.id}")
        elif str(overlay) not in table.elements.get("tunneled", {}):
            yield Fault("tunnel", host.label, f"it does not send to {other.id} through the tunnel")


def _gateways(world: World, host: SimulatedHost) -> Iterator[Fault]:
    """Gateways pass on, others do not, and what this host sends arrives."""
    named = {one for ids in world.gateways.values() for one in ids}
    passes, down = gateways.relays(host), host.kernel.stage == "down"
    # One without a public address is none.
    if (host.id in named and host.host.public is not None and not down) != passes:
        said = "passes on" if passes else "does not pass on"
        yield Fault("gateways", host.label, f"it {said}; the gateways are {sorted(named)}")
    if down or not world.gateways:
        return
    for other in _running(world):
        if other.host.site == host.host.site or other.kernel.stage == "down":
            continue
        if not all(map(_goes_somewhere, (host, other))):
            continue
        if not world.reaches(host, other):
            yield Fault("gateways", host.label, f"what it sends to {other.id} does not arrive")


def _goes_somewhere(host: SimulatedHost) -> bool:
    """Whether it has a public address, or a gateway of its site is there."""
    return host.host.public is not None or _has_gateway(host.world, host.host.site)


def _has_gateway(world: World, site: str) -> bool:
    there = world.gateways.get(site, ())
    return any(
        one.id in there and one.host.public is not None and one.kernel.stage != "down"
        for one in _running(world)
    )


def _agree(stage: Stage) -> Iterator[Fault]:
    world = stage.world
    registry = MemoryRegistry(world.server)
    told = told_by(registry)
    for sentence in told.faults:
        yield Fault("agree", "registry", sentence)
    running = {host.id: host for host in _running(world)}
    if told.members.keys() != running.keys():
        sentence = f"members {sorted(told.members)}, running: {sorted(running)}"
        yield Fault("agree", "registry", sentence)
        return
    reports = registry.reports(running) or ()
    shown = {one.host_id: decode(one.document).stage for one in reports}
    for host_id, host in running.items():
        member = told.members[host_id]
        if (member.private, member.public) != (host.host.private, host.host.public):
            yield Fault("agree", host_id, f"registered at {member.private}, {member.public}")
        kept = _on_disk(host)
        record = kept.record
        confirmed = record is not None and record.requires and host.kernel.stage == "enforced"
        # Nothing goes in the clear where it may have to pass a gateway.
        required = bool(world.gateways) or (confirmed and world.encrypt is Encrypt.REQUIRE)
        state = host.kernel.read()
        for sentence in differing(state, told, host_id, host.host.site, required=required):
            yield Fault("agree", host_id, sentence)
        yield from _tunnel(world, host, told)
        yield from _gateways(world, host)
        yield from _groups(world, host)
        overlays = {member.id: member.overlay for member in told.members.values()}
        for sentence in name_invariants.wrong(world, host, overlays):
            yield Fault("names", host_id, sentence)
        route = next((one for one in host.machine.routes if one.ours), None)
        if route is None or route.source != host.machine.private:
            yield Fault("agree", host_id, f"the overlay's route: {route}")
        if shown.get(host_id) != host.kernel.stage:
            sentence = f"the fleet shows {shown.get(host_id)}, the kernel: {host.kernel.stage}"
            yield Fault("shown", host_id, sentence)
        status = host.status()
        for one in () if status is None else status.problems:
            if not _stays(host, one.code):
                yield Fault(f"problem {one.code}", host_id, one.sentence)
        # A key that cannot be used is replaced only where one is needed.
        needed = world.encrypt is not Encrypt.OFF
        faults = [one for one in kept.faults if needed or one.file != KEY_FILE]
        if kept.members.keys() != told.members.keys() or faults:
            yield Fault("disk", host_id, f"disk holds {sorted(kept.members)} {faults}")
        if host.agent is not None and kept.record != host.agent.core.stage.record:
            yield Fault("disk", host_id, "the record on disk is not the agent's")
