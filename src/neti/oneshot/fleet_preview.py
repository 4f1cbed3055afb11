"""What enforcing would break in the whole fleet, as its hosts say. Reads what was read.

Must never do: pass over a host that is not there.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neti.fleet.finding import A_DAY
from neti.fleet.listing import Row, shown_stage
from neti.fleet.selecting import Choice, off_by, value_of
from neti.oneshot.seen import Seen
from neti.registry.hurts import Hurts
from neti.stage.hurting import Lost, lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """``value``: of the label, or whatever else was asked for; ``stages``: how many are in each."""

    value: str
    stages: Mapping[str, int]
    lost: Lost


def tiers(seen: Seen, rows: Sequence[Row], choice: Choice, key: str | None) -> list[Tier]:
    """For each value of a label; of all together without one. What a host said long ago does not
    count."""
    now = time.time()
    by: dict[str, list[Row]] = {}
    for row in rows:
        if choice.may_concern(row, now):
            by.setdefault(value_of(row, key) if key is not None else "", []).append(row)
    return [
        Tier(
            value=value,
            stages=dict(sorted(Counter(map(shown_stage, those)).items())),
            lost=lost({row["id"]: _hurts(seen, row, now) for row in those}, now, A_DAY),
        )
        for value, those in sorted(by.items())
    ]


def _hurts(seen: Seen, row: Row, now: float) -> Hurts | None:
    told = seen.told.get(row["id"])
    return told.hurts if told is not None and off_by(row, now) is None else None
