"""What must be so after every step, each with the promise of docs/safety.md that it checks.

An invariant reads kernel, disk, registry, and what an operator would be told. Must never do: take
an agent's word for what is so.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from neti import durable
from neti.model import Encrypt
from neti.monitoring.check import judge
from neti.monitoring.situation import KernelLook, Level, Limits, Situation
from neti.monitoring.status import Status
from neti.ruleset.gateways import Way
from neti.state.folder import KEY_FILE, STAGE_FILE
from simulation.gateways import has_role
from simulation.group_invariants import narrowed, no_trial, outside
from simulation.host import SimulatedHost
from simulation.truth import MENDED_WITHIN, Truth, Word
from simulation.world import FORGED_PRIVATE, LINGER_SECONDS, OPERATORS, SITES, World

_HEARD_WITHIN: Final = 15.0
_NEVER_REVOKED_AT_LEAST: Final = "own address, gateway or registry"


@dataclass(frozen=True, slots=True)
class Fault:
    """``code``: of the invariant; two runs found the same when it is the same."""

    code: str
    host: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.code}: {self.host}: {self.sentence}"


Found = Iterator[str]


def way_in(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """The operator gets in: nothing is armed without a way in."""
    kernel = host.kernel
    meddled = world.time.now - truth.of(host).meddled <= MENDED_WITHIN
    if kernel.drops and not meddled and not kernel.admits_ssh((OPERATORS,)):
        yield "the kernel drops input, and no rule lets the operators' network in"


def own_traffic(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """The machine's own: what this host itself opens is answered."""
    never = {str(a) for a in (*host.machine.gateways, *host.reserved)}
    if world.time.now - host.moved > MENDED_WITHIN:
        never |= {str(host.machine.private), str(host.host.public)}
    cut = never & host.kernel.timed("revoked4").keys()
    if cut and host.runs:
        yield f"{min(cut)} is {_NEVER_REVOKED_AT_LEAST} of this host and counts as removed"


def removals(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """Nothing is lost: nobody is removed who did not leave, or vanish for long enough."""
    word, table = truth.of(host), host.kernel.table
    deaf, word.deaf_before = word.deaf_before, None if host.caught_up else host.deaf_from
    if table is None:
        return
    now = host.kernel.reached()
    before, word.overlay = word.overlay, now
    for overlay in before.keys() - now.keys():
        host_id = truth.owner.get(overlay, "")
        if before[overlay] == str(host.host.private):
            continue  # it led here, and an operator has given it to another host since
        if _led_to_former(host, truth, overlay, before[overlay]):
            continue
        if _refused_in_the_clear(host, host_id) or _without_a_way(host, host_id, before[overlay]):
            continue
        if why := _unjustified(world, truth, host, word, host_id, overlay, deaf):
            yield f"{host_id} ({overlay}) was removed, though {why}"


def _led_to_former(host: SimulatedHost, truth: Truth, overlay: str, real: str) -> bool:
    """It led to a host whose address it is no more, maybe since long before this host could see.
    ``real``: empty where it led into the tunnel."""
    former = truth.formerly.get(overlay, set()) - {truth.owner.get(overlay, "")}
    at = [one.host for one in host.world.hosts if one.id in former]
    if not real:
        return any(one.site != host.host.site for one in at)
    now = any(real in (str(one.private), str(one.public)) for one in at)
    return now or any(host_id in former for host_id, _ in truth.at.get(real, ()))


def _refused_in_the_clear(host: SimulatedHost, host_id: str) -> bool:
    """Encryption is required for good, and this member has no peer here; it is a member still."""
    table, agent = host.kernel.table, host.agent
    required = table.require if table is not None else {}
    if not required or any(left is not None for left in required.values()):
        return False
    return agent is None or host_id in agent.core.members.fleet.members


def _without_a_way(host: SimulatedHost, host_id: str, real: str) -> bool:
    """Gateways: it is a member still, and there is no gateway by which to reach it, or no key; or
    its road by them is on its way into the kernel, or waits until that takes the rules.
    ``real``: empty where it led into the tunnel."""
    agent = host.agent
    if agent is None:
        return bool(host.world.gateways) or (not real and host.world.encrypt is Encrypt.OFF)
    fleet, part = agent.core.members.fleet, agent.core.members.gateways
    member = fleet.members.get(host_id)
    if member is None or member.site == host.host.site:
        return False
    waits = agent.core.members.elements.pending
    if not host.world.gateways:
        if waits and not real:
            return True  # the tunnel is no more, and what the member says instead is on its way
        behind = not host.caught_up or _has_none(host.world, host_id)
        return member.public is None and behind
    hindered = {"kernel", "encryption_missing", "encryption_device"}
    if waits or hindered & {one.code for one in agent.core.problems}:
        return True
    return host_id not in fleet.keys or part.way(member) in (None, Way.NONE)


def _has_none(world: World, host_id: str) -> bool:
    """Whether this host has no public address, or its agent could not say yet that it has one."""
    return not any(
        one.id == host_id
        and one.host.public is not None
        and one.answers
        and world.time.now - one.moved > MENDED_WITHIN
        for one in world.hosts
    )


def _unjustified(
    world: World,
    truth: Truth,
    host: SimulatedHost,
    word: Word,
    host_id: str,
    overlay: str,
    deaf: float | None,
) -> str:
    """``deaf``: since when it did not know all at the last look; None: it did. What it learnt long
    ago may come into its kernel only now."""
    if not host_id or host_id == host.id or host_id in truth.left or host_id in word.released:
        return ""
    if host_id in host.unwritten:
        return ""  # a new process, for which it was never there
    now = world.time.now
    if (
        word.damaged
        or word.down
        or "members.jsonl" in host.unsaved
        or now - word.meddled < MENDED_WITHIN
    ):
        return ""
    if truth.leases.get(host_id) != overlay:
        return ""  # the address is not its any more
    lost = truth.lease_lost.get((host_id, overlay), -1e9)
    if now - max(lost, truth.passed_on.get(overlay, -1e9)) < MENDED_WITHIN:
        return ""  # it led to whoever had it before, or was not its for a moment
    if host_id in truth.members:
        member = truth.members[host_id]
        if str(member.overlay) != overlay:
            return ""
        came = truth.came[host_id]
        behind = min(host.deaf_from, came if deaf is None else min(deaf, came))
        if truth.said_last.get(host_id, -1e9) >= behind - _HEARD_WITHIN:
            return ""  # it left, and came again: one after the other, maybe a little later here
        heard = host.caught_up and now - host.attentive_since >= _HEARD_WITHIN
        unheard = not heard and came >= host.deaf_from - _HEARD_WITHIN
        late = unheard or now - came < _HEARD_WITHIN
        if late and host.seems(word.saw(host_id)) >= LINGER_SECONDS - 1.0:
            return ""  # its time was over before
        return "it is registered"
    if host_id in truth.retired:
        return ""  # nobody waits for one that operators took out
    if truth.said_last.get(host_id, -1e9) >= word.saw(host_id):
        return ""  # and what was between its goodbye and now this host did not live through
    gone = truth.gone.get(host_id)
    if gone is None or host.seems(min(gone, word.saw(host_id))) >= LINGER_SECONDS - 1.0:
        return ""  # one that came again while nobody was told is lost since before that
    return f"it is gone for {now - gone:.0f} s"


def record(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """Nothing is lost: the record on disk never claims what did not happen."""
    word = truth.of(host)
    held = host.disk.files.get(STAGE_FILE)
    for_good = host.kernel.table is not None and all(
        host.kernel.enforce().get(family, 0) is None for family in ("ipv4", "ipv6")
    )
    word.for_good_seen |= for_good
    if held is None or held.data == word.record:
        return
    word.record = held.data
    try:
        confirmed = durable.checked(held.data).get("confirmed") is True
    except ValueError:
        return
    if confirmed and not word.for_good_seen and not word.damaged:
        yield "stage.json says confirmed, and the kernel never held it for good"
    if not confirmed:
        word.for_good_seen = for_good


def evidence(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """Turning reject_all on: a forgotten port leaves a trial unconfirmed."""
    users = host.users
    if not users.refused or host.kernel.stage != "enforced":
        return
    users.refused = False
    word = truth.of(host)
    if not word.damaged and not word.accepted and world.time.now - word.meddled > MENDED_WITHIN:
        yield "a trial confirmed itself that kept out a user who had been there before"


def open_session(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """Turning reject_all on: a trial leaves in whoever is in by SSH."""
    word = truth.of(host)
    shut_out, word.shut_out = word.shut_out, False
    if shut_out and not word.damaged and world.time.now - word.meddled > MENDED_WITHIN:
        yield "a trial confirmed itself that shuts out an operator who is in by SSH"


def clear(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """Encryption between sites: where it is required and in force, nothing goes in the clear. By
    the maps alone, though set ``require`` would refuse it too."""
    word, kernel = truth.of(host), host.kernel
    table = kernel.table
    if not word.requires or word.damaged or table is None or not kernel.drops:
        return
    if world.time.now - max(word.meddled, host.moved) <= MENDED_WITHIN:
        return
    overlay, peers = table.elements.get("overlay", {}), table.elements.get("peers4", {})
    through = table.elements.get("tunneled", {})
    for member in truth.members.values():
        if member.site == host.host.site:
            continue
        to, real = overlay.get(str(member.overlay)), str(member.public)
        # For a moment an address that was another host's leads to where that one is, or was; and
        # for as long as this host has not read of it. Only in its own site are they private ones.
        led = world.time.now - truth.passed_on.get(str(member.overlay), -1e9) < MENDED_WITHIN
        led |= to is not None and not host.caught_up and _is_private(to)
        if to is not None and str(member.overlay) not in through and not led:
            yield f"{member.id} must be reached through the tunnel, and is in the clear"
        if real in peers:
            yield f"{member.id} must come through the tunnel, and is let in at {real}"


def _is_private(real: str) -> bool:
    return any(IPv4Address(real) in net for site in SITES.values() for net in site.private)


def forwarding(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """Gateways: the kernel forwards only what rules name, and not while Neti is down."""
    word = truth.of(host)
    if not host.machine.interfaces_.forwarded or has_role(host) or not host.answers or host.late:
        return
    if world.time.now - max(word.meddled, host.moved) <= MENDED_WITHIN or word.damaged:
        return
    agent = host.agent
    said = agent is not None and "forwarding_not_noted" in agent.core.problems
    note = host.disk.files.get("forwarding.json")
    # What was switched on without a note, because the disk took none, may stay on.
    ours = note is not None and host.boot_id.encode() in note.data
    if host.kernel.failing is None and ours and not said:
        yield "its uplink forwards, and there are no rules of a gateway"


AFTER_EACH_STEP: Final[tuple[Callable[[World, Truth, SimulatedHost], Found], ...]] = (
    way_in,
    own_traffic,
    removals,
    record,
    evidence,
    open_session,
    clear,
    outside,
    narrowed,
    forwarding,
)


# --- at rest: two seconds without a step, and nothing in the way of the host ---


def last_word(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """Turning reject_all on: what an operator was told is for good is so for good."""
    word = truth.of(host)
    relaxed = word.relaxed or word.borne == "relax"
    if relaxed and host.kernel.drops and world.time.now - word.meddled > MENDED_WITHIN:
        yield "an operator relaxed it and was told so, and the kernel drops input"
    down = word.down or word.borne == "down"
    if down and host.kernel.table is not None and not host.kernel.marked_down():
        yield "an operator took it down and was told so, and the table is in the kernel"


def told(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """Nothing is lost: a host that was enforced is never open without a word about it."""
    agent, word, is_so = host.agent, truth.of(host), host.kernel.stage
    if agent is None or not host.answers or host.late:
        return
    opened = word.enforced and not word.damaged and not host.kernel.drops
    if not opened and agent.core.stage.word == is_so:
        return  # the status says this stage, and nothing is left that 'neti check' would owe
    status = host.status()
    if status is None:
        return
    level = verdict(host, status)
    if opened and level is not Level.CRITICAL:
        yield f"it was enforced and is open, and 'neti check' says {level.name}"
    if level is Level.OK and status.stage != is_so:
        yield f"'neti check' is OK and the stage is {status.stage}, but the kernel: {is_so}"


def believed(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """The machine's own: the kernel is what is believed, or a problem says so."""
    agent = host.agent
    if agent is None or not host.answers or host.late or agent.core.down.now:
        return
    if world.time.now - truth.of(host).meddled <= MENDED_WITHIN or "kernel" in agent.core.problems:
        return
    state = host.kernel.read()
    if state.structure is None:
        yield "there is no table, and no problem says so"
        return
    for where in agent.core.members.elements.sets:
        held = dict(state.elements.get(where, {}))
        if held != dict(agent.core.members.elements.kernel[where]):
            yield f"{where} in the kernel is not what the agent believes it is"


def goodbyes(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """Nothing is lost: nobody is let in who left, unless the guard holds it and says so."""
    agent = host.agent
    if agent is None or not host.answers or host.late or host.cut or not agent.core.in_step.fresh:
        return
    if "kernel" in agent.core.problems or agent.core.down.now or host.kernel.table is None:
        return
    if world.time.now - truth.of(host).meddled <= MENDED_WITHIN:
        return
    overlay = host.kernel.table.elements.get("overlay", {})
    now = world.time.now
    for host_id, at in truth.left.items():
        # Who did not hear the goodbye may take it for a loss.
        since = max(at, host.attentive_since)
        if host.attentive_since >= at and now - since < LINGER_SECONDS + MENDED_WITHIN:
            continue
        held = host_id in agent.core.members.fleet.holds
        mine = truth.leases.get(host_id, "")
        leads = overlay.get(mine)
        # Where it leads to this host itself nothing of the other is left: see ``given_away``.
        if leads not in (None, str(host.host.private)) and not held and host_id != host.id:
            yield f"{host_id} said goodbye, and its address {mine} still leads there"


def stays_out(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """Moving: whom operators took out stays out until they say otherwise, whatever becomes of the
    registry, once it has heard it."""
    since, agent = truth.retired.get(host.id), host.agent
    if since is None or agent is None or not host.answers or host.late or host.cut:
        return
    if _has_copy(world, host):
        return  # one of the two has heard it, and maybe not the one that is registered
    word, now = truth.of(host), world.time.now
    if host.id not in truth.heard_out or word.damaged or not agent.core.in_step.fresh:
        return
    if host.id in truth.members and now - max(since, host.attentive_since) > MENDED_WITHIN:
        yield "an operator took it out of the fleet, and it is registered"


def given_away(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """Moving: an address that is another host's now does not lead to its former one, on it."""
    agent, table = host.agent, host.kernel.table
    if agent is None or not host.caught_up or table is None or host.kernel.marked_down():
        return
    if "kernel" in agent.core.problems or world.time.now - truth.of(host).meddled <= MENDED_WITHIN:
        return
    out = agent.core.disk.itself.retired
    if out is not None and out.overlay is None:
        return  # whoever is out, and was not moved, does not look whose its lease is
    for overlay, leads in table.elements.get("overlay", {}).items():
        if host.id not in truth.formerly.get(overlay, ()):
            continue  # another host may well say that it is where this one is
        passed = world.time.now - truth.passed_on[overlay] > MENDED_WITHIN
        owner = truth.owner[overlay]
        if leads == str(host.host.private) and owner != host.id and passed:
            yield f"{overlay} is the address of {owner} now, and leads to {host.id} itself"


def flows(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """Nothing is lost: no connection stays untranslated once the table is back."""
    agent, table = host.agent, host.kernel.table
    if agent is None or not host.answers or table is None or host.kernel.marked_down():
        return
    if "kernel" in agent.core.problems or world.time.now - truth.of(host).meddled < 3.0:
        return
    if world.time.now - truth.of(
        host
    ).meddled <= MENDED_WITHIN and agent.kernel.others.fight.sentence(agent.core.now()):
        return
    if truth.wiped:
        return  # whoever is known only once it has registered anew: docs/design/simulation.md
    overlay = table.elements.get("overlay", {})
    for flow in host.connections.flows:
        leads = overlay.get(str(flow.overlay))
        if leads is not None and flow.leads != leads and flow.leads is None:
            yield f"a flow to {flow.overlay} began without the table and is dead with it"


def _has_copy(world: World, host: SimulatedHost) -> bool:
    """Whether another machine has its id."""
    return sum(one.id == host.id for one in world.hosts) > 1


def identity(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """The machine's own: one odd answer takes no address away."""
    member = truth.members.get(host.id)
    lately = max(host.moved, host.attentive_since)
    if world.time.now - lately <= MENDED_WITHIN or host.cut or world.server._down:
        return  # it had none until then, or could not say it
    if not host.answers:
        return  # nor could this one
    if host.metadata.silent:
        return  # it cannot know
    word = truth.of(host)
    core = host.agent.core if host.agent is not None else None
    if core is not None and (core.members.gateways.unanswered or "gateways_gone" in core.problems):
        word.unanswered = world.time.now  # a second witness that it is gone
    if _has_copy(world, host) or world.time.now - word.unanswered <= MENDED_WITHIN:
        return
    if member is not None and member.public is None and host.host.public is not None:
        yield "it is registered without its public address, which is there"


def vouched(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """Where records decide, nobody but a host itself speaks for it: what was forged is let in
    nowhere."""
    agent = host.agent
    if not host.answers or agent is None or agent.core.members.fleet.records != "strict":
        return
    for member in agent.core.members.fleet.members.values():
        if member.private == FORGED_PRIVATE:
            yield f"{member.id} is believed to be where somebody who forged its entry says"


def road(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """The machine's own: the overlay's route leads from this host's address."""
    agent, word = host.agent, truth.of(host)
    if agent is None or not host.answers or host.late or host.kernel.stage == "down":
        return
    core = agent.core
    lately = max(word.meddled, host.moved)
    if "kernel" in core.problems or "route" in core.problems or core.down.now:
        return
    if world.time.now - lately > MENDED_WITHIN and not any(r.ours for r in host.machine.routes):
        yield "its table is in the kernel and its route is not, and no problem says so"


def company(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """The machine's own: another program's table that keeps members out is named."""
    dropping = any(chain.drops for t in host.machine.tables.values() for chain in t.chains.values())
    if not dropping or not host.answers or host.late or host.kernel.stage == "down":
        return
    agent, meddled = host.agent, truth.of(host).meddled
    if agent is None or agent.core.down.now or world.time.now - meddled <= MENDED_WITHIN:
        return
    if not {"tables_drop", "kept_out", "kernel"} & {one.code for one in agent.core.problems}:
        yield "another program's table keeps members out, and no problem says so"


def tunnel(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """Encryption between sites: the table leads to no peer that the device has not, and the device
    is what is believed, or a problem says so."""
    agent, table = host.agent, host.kernel.table
    if agent is None or not host.answers or host.late or table is None:
        return
    core, word = agent.core, truth.of(host)
    lately = max(word.meddled, word.meddled_road, host.moved)
    if core.down.now or world.time.now - lately <= MENDED_WITHIN:
        return
    if {"kernel", "encryption_missing", "encryption_device"} & {one.code for one in core.problems}:
        return
    if core.members.elements.pending and "commit" in core.timers.due:
        return  # a member that has another address now: the device first, then the table
    if core.members.overlay is None:
        return  # an operator gave its address to another host: no road, until there is a new one
    led = table.elements.get("tunnel_peers", {}).keys()
    device = host.tunnel.device()
    held = {} if device is None else device.peers
    allowed = {str(net.network_address) for one in held.values() for net in one.peer.allowed}
    for overlay in sorted(led - allowed):
        yield f"{overlay} goes to the tunnel, the device has no peer for it, and nothing says so"
    for overlay in sorted(table.elements.get("tunneled", {}).keys() - led):
        yield f"{overlay} is sent through the tunnel, and what comes out of it is not let in"
    wished = agent.roads._reckoning.held.wished().keys()
    if held.keys() != wished and core.own_key.wanted and core.members.known:
        yield f"the device has {len(held)} peers, and {len(wished)} are believed to be there"


def keys(world: World, truth: Truth, host: SimulatedHost) -> Found:
    """Encryption between sites: a private key is this host's alone, and in its file alone."""
    texts = [text.encode() for text in host.keys.texts()]
    if not texts:
        return
    for other in world.hosts:
        for name, file in other.disk.files.items():
            if other.id == host.id and KEY_FILE in name:
                continue
            if name != KEY_FILE and any(text in file.data for text in texts):
                yield f"its private key is in {name} of {other.label}"
        if other.id != host.id and other.tunnel.device_.public in host.keys.publics():
            yield f"its private key is in the device of {other.label}"


AT_REST: Final[tuple[Callable[[World, Truth, SimulatedHost], Found], ...]] = (
    last_word,
    told,
    believed,
    goodbyes,
    stays_out,
    given_away,
    flows,
    identity,
    vouched,
    road,
    company,
    tunnel,
    keys,
    no_trial,
)


def verdict(host: SimulatedHost, status: Status) -> Level:
    """``neti check`` on this host."""
    kernel = host.kernel
    look = KernelLook(
        table=kernel.table is not None and not kernel.marked_down(),
        dormant=kernel.marked_down(),
        drops=kernel.drops,
    )
    seen = Situation(status=status, kernel=look, conntrack=1.0)
    return judge(seen, Limits()).level


def after_step(world: World, truth: Truth) -> Iterator[Fault]:
    """Of hosts that did anything since the last look."""
    for host in world.hosts:
        word, done = truth.of(host), (host.gate.count, host.boots)
        if word.looked_at == done:
            continue
        word.looked_at = done
        for invariant in AFTER_EACH_STEP:
            for sentence in invariant(world, truth, host):
                yield Fault(invariant.__name__, host.label, sentence)


def at_rest(world: World, truth: Truth) -> Iterator[Fault]:
    """What takes long is asked of hosts of which anything is otherwise than at the last look."""
    for host in world.hosts:
        word, kernel = truth.of(host), host.kernel
        seen = (
            *(host.turns, host.gate.count, host.boots, host.late, id(kernel.table), kernel.drops),
            *(word.meddled, world.time.now - word.meddled <= MENDED_WITHIN),
            *(word.enforced, word.damaged),
        )
        same, word.rested_at = seen == word.rested_at, seen
        for invariant in AT_REST:
            if same and invariant in (told, believed):
                continue
            for sentence in invariant(world, truth, host):
                yield Fault(invariant.__name__, host.label, sentence)
