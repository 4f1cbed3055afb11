"""``python -m benchmarks [--quick] [ROW…]``, from the project's root, as root.

Must never do: fail because a figure is bad.
"""

import argparse
import importlib
import signal
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks import docs, machine
from benchmarks.figures import Report
from benchmarks.scale import FULL, QUICK, TINY, Scale, say
from neti.errors import NetiError
from neti_lab.namespaces import require

# Each is the name of the module that measures it; one change first, experiments last.
ROWS: Final = (
    "change",
    "fleet_moves",
    "agent_start",
    "commands",
    "packets",
    "groups",
    "openings",
    "fanout",
    "under_load",
    "embedded",
    "audit",
    "reads",
    "proofs",
    "outage",
    "road",
    "road_packets",
    "encrypted_fleet",
    "wireguard_peers",
    "gateway",
    "gateway_road",
    "connect_hook",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What Neti costs, beside what else there is."
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, under four minutes")
    parser.add_argument("--tiny", action="store_true", help="whether it runs at all: no figures")
    parser.add_argument(
        "--docs",
        type=Path,
        metavar="FILE",
        help="put tables into this page, and drawings beside it",
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all")
    words = parser.parse_args()
    unknown = set(words.rows) - set(ROWS)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    scale = TINY if words.tiny else QUICK if words.quick else FULL
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        require()
        return _run(words.rows or list(ROWS), scale, words.docs)
    except NetiError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(rows: list[str], scale: Scale, page: Path | None) -> int:
    failed = 0
    print("\n".join(machine.lines()), flush=True)
    for name in rows:
        began, load = time.monotonic(), machine.load()
        try:
            report: Report = importlib.import_module(f"benchmarks.{name}").run(scale)
        except NetiError as error:
            say("")
            print(f"\n## {name}: could not be measured: {error}", flush=True)
            failed = 1
            continue
        say("")
        footer = f"{time.monotonic() - began:.0f} s; load before {load}, after {machine.load()}"
        text = [*report.lines, footer]
        print(f"\n## {name}: {report.title}\n", *text, sep="\n", flush=True)
        if page is not None:
            docs.put(page, name, [machine.stamp(), *text], report.plots)
    return failed


if __name__ == "__main__":
    sys.exit(main())
