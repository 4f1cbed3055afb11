"""What gateways cost on the encrypted road: from a host behind one to a host with a public address,
and between two hosts behind one each, beside two hosts with public addresses.

All are in one fleet of namespaces (``tests/support/gateway_net.py``), with WireGuard and the tables
of enforced hosts. Rounds take turns, each second one in the opposite order. A gateway is a machine
more on the way: one more wire there and back, and what it does itself.
"""

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Final

from tests.support import gateway_net
from tests.support.gateway_net import EC2_1, OPEN, VPC_1, A, B, Fleet

from benchmarks.figures import US, Line, Report, Times, significant
from benchmarks.packets import Way, bulk, talk
from benchmarks.pairs import Pair, background
from benchmarks.scale import Scale, say
from neti.errors import NetiError
from neti.model import Member
from neti_lab import namespaces

NAME: Final = "gateway_road"
TITLE: Final = "The encrypted road by gateways"
_NEAR: Final = gateway_net.member("near", "ec2", 21, 15, True)  # public, and no gateway
_WAYS: Final = {
    "direct": (_NEAR, OPEN),
    "one gateway": (A, OPEN),
    "two gateways": (A, B),
}
_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Side:
    pair: Pair
    way: Way


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    with ExitStack() as stack:
        say("gateway_road: building")
        fleet = stack.enter_context(gateway_net.fleet(EC2_1, VPC_1, A, B, OPEN, _NEAR))
        for host in (OPEN, B):
            serve = [sys.executable, "-m", "benchmarks.talk", "server"]
            words = namespaces.command_inside(fleet[host].name, serve)
            background(stack, words, ready=b"ready")
        sides = {name: _side(fleet, name, *ends) for name, ends in _WAYS.items()}
        rounds = 10 if scale.seconds >= 5 else 2
        for number in range(rounds):
            for name in list(sides) if number % 2 == 0 else reversed(sides):
                say(f"gateway_road: round {number + 1} of {rounds}, {name}")
                _round(sides[name], scale)
    direct = sides["direct"].way
    for name in list(_WAYS)[1:]:
        report.compare(_lines(sides[name].way, direct), ours=name, other="direct")
        report.say("")
    report.say("Median of the rounds' own ratios to direct:")
    for name in list(_WAYS)[1:]:
        way = sides[name].way
        speed = _ratio(way.gigabits, direct.gigabits)
        cpu = _ratio(way.cpu_per_gb, direct.cpu_per_gb)
        trip = _ratio(_by_round(way.echo, rounds), _by_round(direct.echo, rounds))
        report.say(
            f"  {name:14} throughput {significant(speed)}, CPU {significant(cpu)}, "
            f"round trip {significant(trip)}"
        )
    return report


def _side(fleet: Fleet, name: str, one: Member, other: Member) -> Side:
    deadline = time.monotonic() + _PATIENCE
    while not fleet.calls(one, other):
        if time.monotonic() > deadline:
            raise NetiError(f"{name}: {one.id} does not reach {other.id}")
    ends = fleet[one], fleet[other]
    carriers = [pid for end in ends for pid in end.wireguard.programs]
    pair = Pair(name, ends[0].name, ends[1].name, ends[1].overlay, carriers)
    return Side(pair, Way())


def _round(side: Side, scale: Scale) -> None:
    pair, way = side.pair, side.way
    way.connect.each += talk(pair, "connect", pair.target, scale.rounds)
    way.echo.each += talk(pair, "echo", pair.target, scale.rounds)
    bulk(pair, way, scale.seconds * 0.4, "-C", "cubic")


def _lines(ours: Way, other: Way) -> list[Line]:
    return [
        Line("throughput", ours.gigabits, other.gigabits, 1.0, "Gb/s"),
        Line("CPU for a GB", ours.cpu_per_gb, other.cpu_per_gb, 1.0, "s"),
        Line("round trip", ours.echo, other.echo, US, "µs"),
        Line("first connection", ours.connect, other.connect, US, "µs"),
    ]


def _ratio(ours: Times, other: Times) -> float:
    return median(one / two for one, two in zip(ours.each, other.each, strict=True))


def _by_round(times: Times, rounds: int) -> Times:
    count = len(times) // rounds
    starts = range(0, len(times), count)
    return Times([median(times.each[at : at + count]) for at in starts])
