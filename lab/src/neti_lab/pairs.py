"""What ``neti verify`` found between every two hosts, judged by the lab's own plan. Pure.

The expectation never comes from Neti: in-site pairs must be seen from the caller's private
address and cross-site pairs from its public one, because the plan says that these are their ways.
Where sites are reached by gateways, cross-site pairs are seen from the overlay address that the
registry has leased to the caller: nothing else comes through the tunnel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from neti_lab.topology import LabHost

_WIDEST_MATRIX: Final = 12  # hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One direction between two hosts."""

    source: LabHost
    target: LabHost
    milliseconds: float | None  # None: not reached
    seen_from: str | None
    problem: str | None
    tunnel_from: str | None = None  # the caller's overlay address, where the tunnel is their way

    @property
    def in_site(self) -> bool:
        return self.source.site == self.target.site

    @property
    def expected_from(self) -> str:
        return str(self.source.private if self.in_site else self.tunnel_from or self.source.public)

    @property
    def right_way(self) -> bool:
        return self.milliseconds is not None and self.seen_from == self.expected_from


def judge(
    source: LabHost,
    targets: Sequence[LabHost],
    verified: Mapping[str, Any],
    *,
    tunnel_from: str | None = None,
) -> list[Pair]:
    """Every pair from ``source``, by the document of its ``verify --json``, missing ones too."""
    results = {result["id"]: result for result in verified.get("results", ())}
    pairs = []
    for target in targets:
        if target == source:
            continue
        result = results.get(target.name)
        if result is None:
            result = {"ok": False, "error": verified.get("error", "not among its members")}
        pairs.append(
            Pair(
                source=source,
                target=target,
                milliseconds=float(result["milliseconds"]) if result["ok"] else None,
                seen_from=result.get("seen_from"),
                problem=result.get("error"),
                tunnel_from=tunnel_from,
            )
        )
    return pairs


def matrix(hosts: Sequence[LabHost], pairs: Sequence[Pair]) -> list[str]:
    """Milliseconds from each row to each column; a big fleet's failures only."""
    if len(hosts) > _WIDEST_MATRIX:
        return [complaint(pair) for pair in pairs if not pair.right_way] or [
            f"(all {len(pairs)} pairs; a matrix of {len(hosts)} hosts would not fit)"
        ]
    cells = {(pair.source.name, pair.target.name): _cell(pair) for pair in pairs}
    width = max(len(host.name) for host in hosts) + 2
    lines = ["from \\ to".ljust(width + 3) + "".join(host.name.rjust(width) for host in hosts)]
    for source in hosts:
        row = (cells.get((source.name, target.name), "·") for target in hosts)
        lines.append(source.name.ljust(width + 3) + "".join(cell.rjust(width) for cell in row))
    lines.append(
        "milliseconds; the receiver saw: p the private address, P the public one, T the overlay one"
    )
    lines += [complaint(pair) for pair in pairs if not pair.right_way]
    return lines


def complaint(pair: Pair) -> str:
    if pair.milliseconds is None:
        return f"{pair.source.name} does not reach {pair.target.name}: {pair.problem}"
    return (
        f"{pair.source.name} reaches {pair.target.name}, which sees it as {pair.seen_from} "
        f"instead of {pair.expected_from}"
    )


def _cell(pair: Pair) -> str:
    if pair.milliseconds is None:
        return "FAIL"
    ways = {
        str(pair.source.private): "p",
        str(pair.source.public): "P",
        str(pair.tunnel_from): "T",
    }
    return f"{pair.milliseconds:.1f}{ways.get(pair.seen_from or '', '?')}"
