"""``python -m benchmarks [--quick]``, from the project's root, as root."""

import argparse
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import measure
from benchmarks.measure import Changes, Start, Times
from benchmarks.stage import Stage
from neti import __version__
from neti.errors import NetiError
from neti.lab.namespaces import require

SIZES: Final = (10, 1_000, 16_000)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What a change of the fleet costs."
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds, under a minute")
    quick = parser.parse_args().quick
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        require()
        _run(joins=50 if quick else 250, starts=1 if quick else 5)
    except NetiError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(*, joins: int, starts: int) -> None:
    began = time.monotonic()
    with Stage() as stage:
        _print_machine(stage)
        fleet = measure.Fleet(stage)
        fleet.grow(SIZES[0])
        through: list[Changes] = []
        raw: list[Changes] = []
        _say("one write to ZooKeeper")
        write = measure.zookeeper_alone(stage, joins)
        with stage.agent() as agent:
            for size in SIZES:
                _say(f"{size:,} members: filling")
                fleet.grow(size)
                measure.wait_until_known(stage, agent, size)
                _say(f"{size:,} members: {joins} joins and leaves")
                through.append(measure.through_agent(stage, agent, fleet, joins))
                _say(f"{size:,} members: the same by libnftables alone")
                raw.append(measure.by_libnftables(stage, fleet.members, joins))
            agent.leave()
        start = Start()
        for number in range(starts):
            _say(f"start {number + 1} of {starts}")
            measure.start(stage, fleet, start)
    _say("")
    _print_changes(through, raw, write, joins)
    _print_start(start)
    print(f"\n{time.monotonic() - began:.0f} s in all")


def _print_changes(
    through: Sequence[Changes], raw: Sequence[Changes], write: Times, joins: int
) -> None:
    print(f"\nFrom the request to ZooKeeper to the kernel, {joins} joins and {joins} leaves, ms")
    print(f"(one write to this ZooKeeper, alone: {_ms(write.median)}, p99 {_ms(write.p99)})\n")
    print("                     agent         libnftables      ratio of")
    print("           members  median    p99  median    p99    medians")
    for what in ("join", "leave"):
        for ours, bare in zip(through, raw, strict=True):
            times: Times = getattr(ours, what)
            bare_times: Times = getattr(bare, what)
            print(
                f"{what:10} {ours.members:7,}  {_ms(times.median)} {_ms(times.p99)}  "
                f"{_ms(bare_times.median)} {_ms(bare_times.p99)}  "
                f"{times.median / bare_times.median:9.1f}"
            )
    print(f"\nCPU for one change, mean of {2 * joins}, ms\n")
    print("                     agent                    libnftables              ratio")
    print("           members    both   join  leave        both   join  leave     of both")
    for ours, bare in zip(through, raw, strict=True):
        print(
            f"           {ours.members:7,}  {_cpu(ours)}      {_cpu(bare)}   "
            f"{ours.cpu / bare.cpu:9.1f}"
        )


def _print_start(start: Start) -> None:
    each = ", ".join(f"{seconds:.2f}" for seconds in start.seconds)
    print(f"\nFirst start of an agent with {SIZES[-1]:,} members in ZooKeeper\n")
    print(f"rules in place after  {median(start.seconds):.2f} s (each: {each})")
    print(f"a join right then     {median(start.join) * 1000:.0f} ms")
    print(f"idle after            {median(start.settled):.1f} s (leases are read behind the work)")
    print(f"CPU until it is idle  {median(start.cpu):.2f} s")
    print(f"resident then         {median(start.mib):.0f} MiB (most: {max(start.peak_mib):.0f})")


def _print_machine(stage: Stage) -> None:
    server = stage.zookeeper.four_letters("srvr").partition(": ")[2].partition("-")[0]
    nft = subprocess.run(["nft", "--version"], capture_output=True, text=True, check=False)
    print(
        f"Neti {__version__}, Python {platform.python_version()}, {nft.stdout.partition(' (')[0]},"
    )
    print(f"ZooKeeper {server} (forceSync off, tmp folder), Linux {platform.release()},")
    print(f"{os.cpu_count()} cores: {_processor()}")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:6.2f}"


def _cpu(changes: Changes) -> str:
    return " ".join(_ms(cpu) for cpu in (changes.cpu, changes.join_cpu, changes.leave_cpu))


def _say(what: str) -> None:
    """Progress, where somebody looks."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
