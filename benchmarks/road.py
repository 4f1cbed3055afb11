"""What the encrypted road costs: across, beside wireguard-go alone, and beside the same behind any
firewall that tracks connections; in a site, beside a site where nobody encrypts.

Both sides of each comparison are there at the same time, and rounds take turns among them, each
second one in the opposite order: a machine that changes its pace does so for all of them.
"""

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks import road_stage
from benchmarks.figures import US, Line, Report, significant
from benchmarks.packets import Way, bulk, talk
from benchmarks.pairs import Pair, background
from benchmarks.road_stage import Street
from benchmarks.scale import Scale, say
from neti_lab import namespaces

NAME: Final = "road"
TITLE: Final = "The encrypted road"


@dataclass(frozen=True, slots=True)
class Side:
    pair: Pair
    way: Way


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    with ExitStack() as stack:
        say("road: building")
        alone, tracked = (road_stage.alone(stack, tracked=it) for it in (False, True))
        on, off = (road_stage.agents(stack, encrypt=word) for word in ("prefer", "off"))
        sides = {
            "across": _side(stack, on, "b"),
            "wireguard-go": _side(stack, alone, "b"),
            "tracked": _side(stack, tracked, "b"),
            "clear": _side(stack, off, "b"),
            "inside": _side(stack, on, "c"),
            "inside, off": _side(stack, off, "c"),
        }
        rounds = 8 if scale.seconds >= 5 else 2
        for number in range(rounds):
            for name in list(sides) if number % 2 == 0 else reversed(sides):
                say(f"road: round {number + 1} of {rounds}, {name}")
                _round(sides[name], scale)
    ways = {name: side.way for name, side in sides.items()}
    report.compare(
        [
            *_lines("across", ways["across"], ways["wireguard-go"]),
            *_lines("across, in the clear", ways["clear"], ways["wireguard-go"]),
        ],
        ours="Neti",
        other="wireguard-go alone",
    )
    report.say("")
    report.compare(
        _lines("across", ways["across"], ways["tracked"]),
        ours="Neti",
        other="wireguard-go, tracked",
    )
    report.say("")
    report.compare(
        _lines("in a site", ways["inside"], ways["inside, off"]),
        ours="the other one on",
        other="nobody encrypts",
    )
    report.say("", "Median of the rounds' own ratios:")
    for what, ours, other in (
        ("throughput across", "across", "wireguard-go"),
        ("the same, tracked", "across", "tracked"),
        ("throughput in a site", "inside", "inside, off"),
    ):
        pairs = zip(ways[ours].gigabits.each, ways[other].gigabits.each, strict=True)
        report.say(f"  {what:24} {significant(median(one / two for one, two in pairs)):>8}")
    return report


def _side(stack: ExitStack, street: Street, to: str) -> Side:
    pair = Pair(to, street.at["a"], street.at[to], str(street.overlay[to]), [*street.carriers])
    serve = [sys.executable, "-m", "benchmarks.talk", "server"]
    background(stack, namespaces.command_inside(pair.server, serve), ready=b"ready")
    return Side(pair, Way())


def _round(side: Side, scale: Scale) -> None:
    pair, way = side.pair, side.way
    way.connect.each += talk(pair, "connect", pair.target, scale.rounds)
    way.echo.each += talk(pair, "echo", pair.target, scale.rounds)
    # Linux' own: with BBR it is what that guesses of the road, which differs from round to round.
    bulk(pair, way, scale.seconds * 0.4, "-C", "cubic")


def _lines(what: str, ours: Way, other: Way) -> list[Line]:
    return [
        Line(f"{what}: throughput", ours.gigabits, other.gigabits, 1.0, "Gb/s"),
        Line(f"{what}: CPU for a GB", ours.cpu_per_gb, other.cpu_per_gb, 1.0, "s"),
        Line(f"{what}: round trip", ours.echo, other.echo, US, "µs"),
        Line(f"{what}: first connection", ours.connect, other.connect, US, "µs"),
    ]
