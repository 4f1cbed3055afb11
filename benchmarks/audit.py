"""What a look for drift costs: a raw netlink dump, as the agent has it, against nft's JSON.

Both read every element of the sets that the agent orders, in a kernel that holds the whole fleet;
that they are equal is checked. See docs/design/dataplane.md.
"""

import json
import subprocess
import time
from typing import Any, Final

from benchmarks import measure
from benchmarks.figures import Line, Report, Times
from benchmarks.measure import Fleet
from benchmarks.scale import Scale, say
from benchmarks.stage import Stage
from neti.dataplane.nftables import NftablesDataplane
from neti.errors import NetiError
from neti.ruleset.objects import FAMILY_TABLE, KernelState
from neti_lab.namespaces import command_inside

NAME: Final = "audit"
TITLE: Final = "A look at all elements: netlink against nft"


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    lines: list[Line] = []
    with Stage() as stage:
        fleet = Fleet(stage)
        for size in scale.sizes:
            say(f"audit: {size:,} members")
            members = fleet.joiners(size)
            with measure.raw_kernel(stage, members) as (dataplane, _):
                lines += _compare(size, dataplane, stage.raw, scale.slow_rounds)
    report.compare(lines, ours="netlink", other="nft -j")
    return report


def _compare(size: int, dataplane: NftablesDataplane, namespace: str, rounds: int) -> list[Line]:
    raw, library = Times(), Times()
    for _ in range(rounds):
        began = time.perf_counter()
        state: KernelState = dataplane.read()
        raw.each.append(time.perf_counter() - began)
        began = time.perf_counter()
        held = {
            "overlay": dict(_listed(namespace, "map", "overlay")),
            "peers4": dict.fromkeys(_listed(namespace, "set", "peers4"), ""),
        }
        library.each.append(time.perf_counter() - began)
    if held != {"overlay": state.elements["overlay"], "peers4": state.elements["peers4"]}:
        raise NetiError("the two ways to read do not agree")
    return [Line(f"{size:,}: everything read", raw, library)]


def _listed(namespace: str, kind: str, name: str) -> list[Any]:
    words = ["nft", "-j", "list", kind, *FAMILY_TABLE.split(), name]
    done = subprocess.run(command_inside(namespace, words), capture_output=True, check=True)
    return next(
        (
            item[kind].get("elem", [])
            for item in json.loads(done.stdout)["nftables"]
            if kind in item
        ),
        [],
    )
