"""No host but two gateways in each site has a public address: whatever becomes of gateways, agents,
tables and keys, no TCP connection between the sites is lost, and nobody reads a word.

Measured of UDP is for how long it was away: from the first datagram without an answer to the next
answer, a datagram being given a quarter of a second.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from drills.drill import Row, Rows, Run
from drills.ear import Ear
from drills.road import Road
from drills.traffic import Steps, longest_away, rows
from neti.ruleset.objects import FAMILY_TABLE
from neti_lab import wireguard
from neti_lab.topology import LabHost

TITLE = "no public address but gateways': what is killed there costs no connection between sites"

_AWAY_SECONDS: Final = 5.0  # UDP, at most: as long as a dead gateway may go unnoticed
_DRAINED_SECONDS: Final = 1.0  # no longer than a busy machine takes for an answer
_TCP: Final = ("new", "stream", "idle")
_LONG_SECONDS: Final = 1800.0

Act = Callable[[Road, LabHost], None]


def run(drill: Run) -> Rows:
    if not wireguard.module_there():
        wireguard.require()
    with Road(drill, hosts=2) as road:
        ec2, vpc = road.member("ec2-1"), road.member("vpc-1")
        ways = ((ec2, vpc), (vpc, ec2))
        steps = Steps()
        with road.sniffing() as ear, road.talking(*ways) as probes:
            road.shout()
            seen = ear.sniffer.look()
            figure = f"{seen.marked} packets with a word in them"
            yield Row("in the clear: the sniffer reads", figure, seen.marked > 0)
            yield from _troubles(drill, road, ear, steps)
            results = [probe.result() for probe in probes]
        for (caller, called), result in zip(ways, results, strict=True):
            yield from rows(f"{caller.name} to {called.name}", result, steps, kinds=_TCP)
        yield from _away(longest_away(results, steps, "udp"), steps.names)


def _troubles(drill: Run, road: Road, ear: Ear, steps: Steps) -> Rows:
    for what, act, host in _chosen(drill, road):
        step = f"{what}: {host.name}"
        drill.say(step)
        steps.begin(step)
        act(road, host)
        yield Row(f"{step}: all is reached again", f"{road.whole():.1f} s", True)
        yield ear.row(step)
        road.at_peace(host)


def _away(found: dict[str, float], names: Iterable[str]) -> Iterator[Row]:
    for step in dict.fromkeys(names):
        away = found.get(step, 0.0)
        most = _DRAINED_SECONDS if step.startswith("gateway drained") else _AWAY_SECONDS
        yield Row(f"{step}: UDP away", f"{away:.2f} s", away <= most)


# --- what happens ---


def _chosen(drill: Run, road: Road) -> Iterator[tuple[str, Act, LabHost]]:
    """Each on one side of the road, or on both; at length by chance. A gateway is one that the
    traffic goes by at that moment."""
    sides = [road.member("ec2-1"), road.member("vpc-1")]
    for number, (what, act) in enumerate(_EVENTS.items()):
        for end in drill.of(full=sides, short=[sides[number % 2]]):
            yield what, act, _where(road, what, end)
    if drill.scale != "long":
        return
    chance, until = drill.chance("events"), time.monotonic() + _LONG_SECONDS
    while time.monotonic() < until:
        what, act = chance.choice(list(_EVENTS.items()))
        yield what, act, _where(road, what, chance.choice(sides))
        time.sleep(_pause(chance))


def _where(road: Road, what: str, end: LabHost) -> LabHost:
    if what == "host moved":
        return road.plan.site(end.site).host(2)
    return road.gateway_of(end) if what.startswith("gateway") else end


def _pause(chance: random.Random) -> float:
    return chance.uniform(0.0, 5.0)


def _agent_killed(road: Road, host: LabHost) -> None:
    road.kill_agent(host)
    road.start_agent(host)


def _table_flushed(road: Road, host: LabHost) -> None:
    road.nft(host, f"flush table {FAMILY_TABLE}")


def _table_deleted(road: Road, host: LabHost) -> None:
    road.nft(host, f"delete table {FAMILY_TABLE}")


def _switched_off(road: Road, host: LabHost) -> None:
    """Everybody else reaches each other without it, and then it comes back."""
    road.switch_off(host)
    road.whole(host)
    road.switch_on(host)


def _cut_off(road: Road, host: LabHost) -> None:
    road.cut(host)
    road.whole(host)
    road.mend(host)


def _drained(road: Road, host: LabHost) -> None:
    """Its cable is pulled once nothing comes to it any more: nobody may feel that."""
    road.operator_says("gateway", "drain", host.name)
    road.wait_until_idle(host)
    road.cut(host)
    road.whole(host)
    road.mend(host)
    road.operator_says("gateway", "undrain", host.name)


def _key_rotated(road: Road, host: LabHost) -> None:
    road.says(host, "key", "rotate")


def _moved(road: Road, host: LabHost) -> None:
    """Its address goes to its neighbour in the other site, and it comes back with another."""
    (other,) = (site for site in road.plan.sites if site.name != host.site)
    overlay = road.play.overlays[host.name]
    road.says(host, "leave")
    road.operator_says("lease", "move", host.name, other.host(host.number).name)
    road.whole(host)
    assert road.play.overlays[other.host(host.number).name] == overlay
    road.start_agent(host)


_EVENTS: Final[dict[str, Act]] = {
    "gateway's agent killed": _agent_killed,
    "gateway's table deleted": _table_deleted,
    "gateway's key rotated": _key_rotated,
    "gateway switched off": _switched_off,
    "gateway cut off": _cut_off,
    "gateway drained": _drained,
    "agent killed": _agent_killed,
    "table flushed": _table_flushed,
    "key rotated": _key_rotated,
    "host moved": _moved,
}
