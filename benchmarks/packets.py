"""Row 4: what a packet pays on each way: directly, with tracking, by one translating rule, by Neti,
by the 2014 rules, by Nebula (which, unlike all others here, encrypts and tunnels).

The one rule is the least that any translation in this kernel costs: what Neti pays beyond it is
Neti's own. Rounds take turns among the ways, so that a machine that changes its pace does so for
all of them.
"""

import contextlib
import json
import re
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.figures import US, Line, Report, Times, significant
from benchmarks.pairs import SERVER, Pair, background, pairs
from benchmarks.process import cpu_of, run_inside
from benchmarks.scale import Scale, say
from benchmarks.svg import Bars
from neti.errors import NetiError
from neti_lab.namespaces import call_inside

NAME: Final = "packets"
TITLE: Final = "What a packet pays"
_NGINX: Final = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log /dev/null;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder};
    keepalive_requests 1000000000;
    server {{ listen 8080 backlog=4096 reuseport; location / {{ return 200 "hello"; }} }}
}}
"""


@dataclass(slots=True)
class Way:
    """What one way has shown."""

    connect: Times = field(default_factory=Times)
    elsewhere: Times = field(default_factory=Times)  # connections that have nothing to do with it
    echo: Times = field(default_factory=Times)
    gigabits: Times = field(default_factory=Times)
    cpu_per_gb: Times = field(default_factory=Times)
    requests: Times = field(default_factory=Times)
    cpu_per_request: Times = field(default_factory=Times)
    fresh_requests: Times = field(default_factory=Times)  # a connection for each
    cpu_per_fresh: Times = field(default_factory=Times)


def run(scale: Scale) -> Report:
    names = ["direct", "tracked", "dnat"]
    names += [f"{kind}-{size}" for size in scale.sizes for kind in ("neti", "2014")]
    names += [f"client-{scale.largest}", "nebula"]
    heavy = [*_others(scale.largest), f"neti-{scale.largest}"]
    with ExitStack() as stack:
        say("packets: building")
        made = stack.enter_context(pairs(names))
        ways = {name: Way() for name in names}
        count = scale.rounds * 5
        rounds = 5 if scale.seconds >= 5 else 2
        for number in range(rounds):
            for name, pair in made.items():
                say(f"packets: latency, round {number + 1} of {rounds}, {name}")
                way = ways[name]
                way.connect.each += talk(pair, "connect", pair.target, count)
                way.echo.each += talk(pair, "echo", pair.target, count)
                if name.startswith(("neti", "2014")):
                    real = str(SERVER.private)
                    way.elsewhere.each += talk(pair, "connect", real, count // 5)
        # One connection's throughput differs most from round to round: it has all rounds.
        for number in range(rounds):
            for name in heavy:
                say(f"packets: throughput, round {number + 1} of {rounds}, {name}")
                bulk(made[name], ways[name], scale.seconds * 0.4)
        for number in range(max(2, rounds - 1)):
            for name in heavy:
                say(f"packets: requests, round {number + 1}, {name}")
                _requests(made[name], ways[name], scale.seconds * 0.4)
    return _report(ways, scale)


def _others(size: int) -> tuple[str, ...]:
    """What Neti is printed against, in a fleet of this size."""
    return ("direct", "tracked", "dnat", f"2014-{size}", "nebula")


def talk(pair: Pair, what: str, address: str, count: int) -> list[float]:
    words = [sys.executable, "-m", "benchmarks.talk", what, address, str(count)]
    times: list[float] = json.loads(run_inside(pair.inside("client", words)).output)
    return times


def bulk(pair: Pair, way: Way, seconds: float, *options: str) -> None:
    """``options``: further ones of iperf3's caller."""
    with ExitStack() as stack:
        serve = pair.inside("server", ["iperf3", "-s", "--forceflush"])
        around = [background(stack, serve, ready=b"-"), *pair.carriers]
        before = cpu_of(around)
        length = str(max(1, round(seconds)))
        call = pair.inside("client", ["iperf3", "-c", pair.target, "-t", length, "-J", *options])
        done = run_inside(call)
        cpu = done.cpu + cpu_of(around) - before
        received = json.loads(done.output)["end"]["sum_received"]
        way.gigabits.each.append(received["bits_per_second"] / 1e9)
        way.cpu_per_gb.each.append(cpu / received["bytes"] * 1e9)


def _requests(pair: Pair, way: Way, seconds: float) -> None:
    """By connections that stay, and by a new one for each request."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="neti-bench-"))
        config = Path(folder) / "nginx.conf"
        config.write_text(_NGINX.format(folder=folder))
        serve = ["/usr/sbin/nginx", "-p", folder, "-c", str(config)]
        around = [background(stack, pair.inside("server", serve)), *pair.carriers]
        call_inside(pair.client, lambda: _answers(pair.target))
        for close, rate, each in (
            (False, way.requests, way.cpu_per_request),
            (True, way.fresh_requests, way.cpu_per_fresh),
        ):
            words = ["wrk", "-t1", "-c16", f"-d{max(1, round(seconds))}s"]
            words += ["-H", "Connection: close"] if close else []
            before = cpu_of(around)
            done = run_inside(pair.inside("client", [*words, f"http://{pair.target}:8080/"]))
            cpu = done.cpu + cpu_of(around) - before
            found = re.search(r"(\d+) requests in ([\d.]+)s", done.output)
            if found is None:
                raise NetiError(f"wrk said nothing of requests: {done.output[-200:]}")
            rate.each.append(int(found[1]) / float(found[2]))
            each.each.append(cpu / int(found[1]))


def _answers(address: str) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection((address, 8080), 1):
            return
        time.sleep(0.02)
    raise NetiError("nginx does not answer")


def _report(ways: dict[str, Way], scale: Scale) -> Report:
    report = Report(TITLE)
    lines: list[Line] = []
    for size in scale.sizes:
        ours = ways[f"neti-{size}"]
        for name in _others(size):
            lines += [_line(f"{size:,}: first connection", ours.connect, name, ways[name].connect)]
        for name in ("direct", f"2014-{size}"):
            other = ways[name].connect if name == "direct" else ways[name].elsewhere
            lines.append(_line(f"{size:,}: a connection elsewhere", ours.elsewhere, name, other))
        for name in _others(size):
            lines += [_line(f"{size:,}: round trip", ours.echo, name, ways[name].echo)]
    ours = ways[f"neti-{scale.largest}"]
    for what, attribute, factor, unit in (
        ("throughput", "gigabits", 1.0, "Gb/s"),
        ("CPU for a GB", "cpu_per_gb", 1.0, "s"),
        ("requests a second", "requests", 1e-3, "k/s"),
        ("CPU for a request", "cpu_per_request", US, "µs"),
        ("connect+request a second", "fresh_requests", 1e-3, "k/s"),
        ("CPU for connect+request", "cpu_per_fresh", US, "µs"),
    ):
        for name in _others(scale.largest):
            label = f"{scale.largest:,}: {what}, against {_called(name)}"
            mine, theirs = getattr(ours, attribute), getattr(ways[name], attribute)
            lines += [Line(label, mine, theirs, factor, unit)]
    report.compare(lines, ours="Neti", other="the other")
    report.say("", "Over plain connection tracking, medians, µs:")
    base = ways["tracked"].connect.median
    for name, way in ways.items():
        report.say(f"  {_called(name):32} {(way.connect.median - base) * US:+8.1f}")
    report.say("", "Beside plain connection tracking, ratios of the medians:")
    report.say(f"  {'':32} {'throughput':>10} {'CPU for a GB':>13}")
    for name, way in ways.items():
        if way.gigabits.each:
            speed = way.gigabits.median / ways["tracked"].gigabits.median
            cpu = way.cpu_per_gb.median / ways["tracked"].cpu_per_gb.median
            report.say(f"  {_called(name):32} {significant(speed):>10} {significant(cpu):>13}")
    report.plots["packets-connect"] = Bars(
        "First connection by overlay address: median",
        "µs",
        [(_called(name), {"median": way.connect.median * US}) for name, way in ways.items()],
    )
    report.plots["packets-throughput"] = Bars(
        "Bulk throughput of one connection: median",
        "Gb/s",
        [
            (_called(name), {"median": way.gigabits.median})
            for name, way in ways.items()
            if way.gigabits.each
        ],
    )
    report.plots["packets-requests"] = Bars(
        "Requests, a new connection for each: median",
        "1/s",
        [
            (_called(name), {"median": way.fresh_requests.median})
            for name, way in ways.items()
            if way.fresh_requests.each
        ],
    )
    return report


def _line(what: str, ours: Times, name: str, other: Times) -> Line:
    return Line(f"{what}, against {_called(name)}", ours, other, US, "µs")


def _called(name: str) -> str:
    kind, _, size = name.partition("-")
    words = {
        "direct": "direct",
        "tracked": "direct + conntrack",
        "dnat": "one DNAT rule",
        "neti": "Neti",
        "client": "Neti on the caller only",
        "2014": "2014 rules",
        "nebula": "Nebula (encrypts)",
    }[kind]
    return f"{words}, {int(size):,}" if size else words
