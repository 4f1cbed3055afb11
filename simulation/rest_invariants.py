"""What must be so at rest: two seconds without a step, and nothing in the way of the host.

Each with the promise of docs/safety.md that it checks.

An invariant reads kernel, disk, registry, and what an operator would be told. Must never do: take
an agent's word for what is so.
"""

from collections.abc import Callable, Iterator
from typing import Final

from neti.monitoring.check import judge
from neti.monitoring.situation import KernelLook, Level, Limits, Situation
from neti.monitoring.status import Status
from neti.state.folder import KEY_FILE
from simulation.group_invariants import no_trial
from simulation.host import SimulatedHost
from simulation.truth import MENDED_WITHIN, Truth
from simulation.world import FORGED_PRIVATE, LINGER_SECONDS, World

Found = Iterator[str]


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
