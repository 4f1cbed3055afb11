"""What must be so after every step, each with the promise of docs/safety.md that it checks.

An invariant reads kernel, disk, registry, and what an operator would be told. Must never do: take
an agent's word for what is so.
"""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from typing import Final

from neti import durable
from neti.model import Encrypt
from neti.ruleset.gateways import Way
from neti.state.folder import STAGE_FILE
from simulation.gateways import has_role
from simulation.group_invariants import narrowed, outside
from simulation.host import SimulatedHost
from simulation.truth import MENDED_WITHIN, Truth, Word
from simulation.world import LINGER_SECONDS, OPERATORS, SITES, World

_HEARD_WITHIN: Final = 15.0
_NEVER_REVOKED_AT_LEAST: Final = "own address, gateway or registry"

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
