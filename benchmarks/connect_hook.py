"""An experiment beyond the rows: an eBPF connect hook, which rewrites an address before there is a
packet. What follows from it is in docs/design/ebpf.md.
"""

import json
import sys
import time
from typing import Final

from benchmarks.bpf import ConnectHook
from benchmarks.figures import US, Line, Report, Times
from benchmarks.fleet import member
from benchmarks.pairs import SERVER, Pair, pairs
from benchmarks.process import run_inside
from benchmarks.scale import Scale, say
from benchmarks.svg import Bars

NAME: Final = "connect_hook"
TITLE: Final = "An eBPF connect hook, beside Neti's rules"


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    size = scale.largest
    addresses = [(m.overlay, m.private) for m in map(member, range(size - 1))]
    names = ("direct", "tracked", f"neti-{size}")
    times = {name: Times() for name in (*names, "hook")}
    put = Times()
    say("connect_hook")
    with pairs(names) as made, ConnectHook([*addresses, (SERVER.overlay, SERVER.private)]) as hook:
        for _ in range(5):
            for name, pair in made.items():
                times[name].each += json.loads(_talk(pair, [], "connect", pair.target, scale))
            # Outside of the namespace: its /sys has no cgroups.
            inside = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(hook.folder / "cgroup.procs")]
            overlay = str(SERVER.overlay)
            hooked = _talk(made["direct"], inside, "connect", overlay, scale)
            times["hook"].each += json.loads(hooked)
        seen = _talk(made["direct"], inside, "peer", overlay, scale).strip()
        for overlay_, real in addresses[: scale.rounds]:
            began = time.perf_counter()
            hook.put(overlay_, real)
            put.each.append(time.perf_counter() - began)
    lines = [
        Line(f"{size:,}: first connection, against {what}", times["hook"], times[name], US, "µs")
        for what, name in (
            ("direct", "direct"),
            ("direct + conntrack", "tracked"),
            ("Neti's rules", f"neti-{size}"),
        )
    ]
    lines.append(Line("one member changed in the map", put, None, US, "µs"))
    report.compare(lines, ours="hook", other="the other")
    report.say("", f"connected to {overlay}, getpeername says {seen}")
    report.plots["connect-hook"] = Bars(
        "First connection: median",
        "µs",
        [(what, {"median": t.median * US}) for what, t in times.items()],
    )
    return report


def _talk(pair: Pair, around: list[str], what: str, address: str, scale: Scale) -> str:
    words = [sys.executable, "-m", "benchmarks.talk", what, address, str(scale.rounds * 5)]
    return run_inside([*around, *pair.inside("client", words)]).output
