"""What openings, and the record of leftovers, cost a first packet.

A stranger who is let in by one of 1 or 1,024 openings, beside one who is let in by ``open_ports``;
and a member that is called by its real address, where that is recorded and where it is not.

Rounds take turns among the ways, so that a machine that changes its pace does so for all of them.
"""

from typing import Final

from benchmarks.figures import US, Line, Report, Times
from benchmarks.packets import talk
from benchmarks.pairs import pairs
from benchmarks.scale import Scale, say

NAME: Final = "openings"
TITLE: Final = "What openings, and the record of leftovers, cost a packet"
COUNTS: Final = (1, 1024)


def run(scale: Scale) -> Report:
    size = scale.largest
    stranger, real, unrecorded = (f"{kind}-{size}" for kind in ("stranger", "real", "unrecorded"))
    opened = {count: f"opened-{size}x{count}" for count in COUNTS}
    names = [stranger, *opened.values(), unrecorded, real]
    connect, echo = ({name: Times() for name in names} for _ in range(2))
    with pairs(names) as made:
        rounds = 10 if scale.seconds >= 5 else 3
        for number in range(rounds):
            for name, pair in made.items():
                say(f"openings: round {number + 1} of {rounds}, {name}")
                connect[name].each += talk(pair, "connect", pair.target, scale.rounds * 5)
                echo[name].each += talk(pair, "echo", pair.target, scale.rounds * 5)
    report = Report(TITLE)
    for what, ours, other, beside in (
        (
            "openings",
            [(f"{count:,} open", opened[count]) for count in COUNTS],
            "open_ports",
            stranger,
        ),
        ("recorded", [("by the real address", real)], "not recorded", unrecorded),
    ):
        lines = [
            Line(f"{size:,}: {kind}, {said}", times[name], times[beside], US, "µs")
            for kind, times in (("first connection", connect), ("round trip", echo))
            for said, name in ours
        ]
        report.compare(lines, ours=what, other=other)
    return report
