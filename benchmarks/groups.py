"""What groups cost a packet: Neti without ``member_ports`` beside Neti with it, on both ends.

Each of 8 or 64 groups has a port, and the one that is asked for is the last.

Rounds take turns among the ways, so that a machine that changes its pace does so for all of them.
"""

from typing import Final

from benchmarks.figures import US, Line, Report, Times
from benchmarks.packets import talk
from benchmarks.pairs import pairs
from benchmarks.scale import Scale, say

NAME: Final = "groups"
TITLE: Final = "What groups cost a packet"
COUNTS: Final = (8, 64)


def run(scale: Scale) -> Report:
    size = scale.largest
    names = [f"neti-{size}", *(f"groups-{size}x{count}" for count in COUNTS)]
    connect, echo = ({name: Times() for name in names} for _ in range(2))
    with pairs(names) as made:
        rounds = 10 if scale.seconds >= 5 else 3
        for number in range(rounds):
            for name, pair in made.items():
                say(f"groups: round {number + 1} of {rounds}, {name}")
                connect[name].each += talk(pair, "connect", pair.target, scale.rounds * 5)
                echo[name].each += talk(pair, "echo", pair.target, scale.rounds * 5)
    report = Report(TITLE)
    lines = [
        Line(f"{size:,}: {what}, {count} groups", times[name], times[names[0]], US, "µs")
        for what, times in (("first connection", connect), ("round trip", echo))
        for count, name in zip(COUNTS, names[1:], strict=True)
    ]
    report.compare(lines, ours="with groups", other="without")
    return report
