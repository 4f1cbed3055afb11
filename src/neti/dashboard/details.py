"""What a page asks for only when somebody looks at it: one host, and what would break.

Must never do: change anything, or take silence for a no.
"""

import time
from dataclasses import asdict
from typing import Any, Final

from neti.dashboard.board import Board
from neti.fleet.crossing import matrix
from neti.fleet.readiness import judged
from neti.fleet.selecting import Choice, off_by
from neti.model.document import plain
from neti.model.problem_codes import KINDS
from neti.model.settings import Settings
from neti.oneshot.fleet_preview import tiers
from neti.oneshot.readiness import known
from neti.oneshot.seen import Seen
from neti.registry.detail import Document
from neti.registry.hurts import Hurts

_MOST: Final = 2000  # rows of a list: what is cut off is counted


class Details:
    """Of one moment. ``now``: Unix seconds. Not thread-safe."""

    def __init__(self, settings: Settings, seen: Seen, board: Board, now: float) -> None:
        self._seen = seen
        self._board = board
        self._known = known(settings, seen, now)
        # Who calls each by a real address.
        self._callers: dict[str, list[dict[str, Any]]] = {}
        for host_id, told in seen.told.items():
            for one in told.left or ():
                self._callers.setdefault(one.to, []).append({"from": host_id, **asdict(one)})

    def of(self, host_id: str) -> dict[str, Any] | None:
        """None: nobody has this id."""
        shown, seen = self._board.shown, self._seen
        if shown is None or (cell := shown.cells.get(host_id)) is None:
            return None
        member = seen.members.get(host_id)
        return {
            "id": host_id,
            "more": list(map(str, member.more)) if member is not None else [],
            "gateway": seen.gateways.get(host_id),
            "drained": host_id in seen.drained,
            "said": _said(seen.told.get(host_id)),
            "problems": [_problem(code) for code in cell.problems],
            "findings": [asdict(one) for one in judged(host_id, self._known)],
            "callers": self._callers.get(host_id, []),
            "events": [asdict(one) for one in self._board.of_one(host_id)],
            "since": self._board.began,
        }


def _said(told: Document | None) -> dict[str, Any] | None:
    """As it was said, but for what every cell has; None: nothing."""
    if told is None:
        return None
    made: dict[str, Any] = plain(told)
    made["hurts"] = told.hurts.plain() if isinstance(told.hurts, Hurts) else None
    return made


def _problem(code: str) -> dict[str, str]:
    kind = KINDS.get(code)
    if kind is None:
        return {"code": code, "severity": "warning", "meaning": "of a later version", "remedy": ""}
    return {
        "code": code,
        "severity": str(kind.severity),
        "meaning": kind.meaning.replace("`", ""),
        "remedy": kind.remedy.replace("`", ""),
    }


def would_break(seen: Seen, key: str) -> dict[str, Any]:
    """Ports by tier, leftovers as client and server, and which site reaches which. What a host said
    long ago is listed, and the host counts among those that do not say."""
    rows, now = seen.rows(), time.time()
    ports = plain(tiers(seen, rows, Choice(), key or None))
    left = sorted(
        (
            {"from": host_id, **asdict(one)}
            for host_id, told in seen.told.items()
            for one in told.left or ()
        ),
        key=lambda one: (one["to"], -one["last"], one["from"]),
    )
    return {
        "key": key,
        "ports": ports,
        "leftovers": left[:_MOST],
        "leftovers_cut": max(0, len(left) - _MOST),
        "leftovers_silent": sorted(
            row["id"] for row in rows if row["left"] is None or off_by(row, now) is not None
        ),
        "reach": _reach(seen),
    }


def _reach(seen: Seen) -> dict[str, Any]:
    """By pair of sites: of the hosts in the one that verified, how many reached all of the other;
    and whom the fewest reach."""
    rows = {
        i: told.verified
        for i, told in seen.told.items()
        if told.verified is not None and told.stage != "down"
    }
    site_of = {i: member.site for i, member in seen.members.items()}
    sites = set(site_of.values())
    pairs: dict[str, dict[str, list[int]]] = {}
    for host_id, row in rows.items():
        if host_id not in site_of:
            continue
        missed = {site_of[i] for i in row.missed if i in site_of}
        of = pairs.setdefault(site_of[host_id], {})
        for site in sites:
            count = of.setdefault(site, [0, 0, 0])  # reached all, missed some, nobody can say
            unknown = row.missed_more > 0 and site not in missed
            count[1 if site in missed else 2 if unknown else 0] += 1
    found = matrix(rows, seen.members.keys())
    return {
        "pairs": pairs,
        "targets": plain(found.targets[:_MOST]),
        "silent": list(found.silent[:_MOST]),
        "verified": len(found.rows),
    }
