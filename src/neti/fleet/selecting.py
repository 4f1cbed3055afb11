"""Which hosts of a fleet a listing or a gate is about, and totals of them. Pure.

Must never do: let a gate pass because nobody knows whether a host belongs to what is asked about.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from neti.fleet.listing import Row, shown_stage
from neti.words import some

UNKNOWN: Final = "?"
BY_ITSELF: Final = ("site", "stage", "state", "version")  # besides labels
_NAMED: Final = 10  # so many values
OLD: Final = 720.0  # seconds: an agent that works writes every ten minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """``where``: labels that a host must have; ``version_below``: agents older than this, or of no
    known version; ``problem``: a code, of which it has any. None, or empty: not asked."""

    site: str | None = None
    stage: str | None = None
    state: str | None = None
    problem: str | None = None
    version: str | None = None
    version_below: str | None = None
    where: tuple[tuple[str, str], ...] = ()

    @property
    def everybody(self) -> bool:
        return self == Choice()

    @property
    def of_what_hosts_say(self) -> bool:
        """Whether anything is asked that only a registered host says."""
        return bool(self.where or self.stage or self.problem or self.version or self.version_below)

    def takes(self, row: Row) -> bool:
        """Of a registered host."""
        older_than = self.version_below
        return (
            self.site in (None, row["site"])
            and self.state in (None, row["state"])
            and (self.stage is None or self.stage in (row["stage"], shown_stage(row)))
            and (self.problem is None or self.problem in (row.get("problems") or ()))
            and self.version in (None, row["version"])
            and (older_than is None or older(row["version"], older_than))
            and self._has_labels(row)
        )

    def takes_away(self, row: Row) -> bool:
        """Of one that is not: it says nothing, and where it was perhaps nobody knows."""
        somewhere = self.site is None or row["site"] in (self.site, None)
        return somewhere and self.state in (None, row["state"]) and not self.of_what_hosts_say

    def may_concern(self, row: Row, now: float) -> bool:
        """For a gate: whether the host is among those asked about, or may be, because it does not
        say, or has not for long. ``now``: Unix seconds."""
        if self.site is not None and row["site"] not in (self.site, None):
            return False
        says = says_labels(row) and off_by(row, now) is None
        return not says or self._has_labels(row)

    def _has_labels(self, row: Row) -> bool:
        labels = row.get("labels") or {}
        return all(labels.get(key) == value for key, value in self.where)


def nobody_like(choice: Choice, rows: Sequence[Row], away: Sequence[Row]) -> str:
    """That no host is as it is asked for, and how hosts are: a misspelt word looks as if all were
    well with those whom it means. ``rows`` and ``away``: of the whole fleet."""
    everybody = [*rows, *away]
    versions = [row["version"] for row in rows]
    problems = [code for row in rows for code in row.get("problems") or ()]
    asked: list[tuple[str, object, str, Iterable[object]]] = [
        (f"{key}={value}", value, f"label {key}", [(r.get("labels") or {}).get(key) for r in rows])
        for key, value in choice.where
    ]
    asked += [
        (f"site {choice.site}", choice.site, "site", [row["site"] for row in everybody]),
        (f"state {choice.state}", choice.state, "state", [row["state"] for row in everybody]),
        (f"stage {choice.stage}", choice.stage, "stage", map(shown_stage, rows)),
        (f"problem {choice.problem}", choice.problem, "problem", problems),
        (f"version {choice.version}", choice.version, "version", versions),
        (
            f"a version below {choice.version_below}",
            choice.version_below,
            "version",
            versions,
        ),
    ]
    wanted = [one for one in asked if one[1] is not None]
    there = dict.fromkeys(_values(what, found) for _, _, what, found in wanted)
    having = " and ".join(words for words, *_ in wanted)
    return f"no host has {having}. Hosts have {'; '.join(there)}"


def _values(what: str, found: Iterable[object]) -> str:
    values = {str(value) for value in found if value is not None}
    return f"{what}: {some(values, _NAMED) if values else 'none'}"


def left_out(choice: Choice, rows: Sequence[Row], away: Sequence[Row]) -> list[str]:
    """Ids of hosts that may well be among those asked for by labels, and say none: they are lost,
    or silent. ``rows`` and ``away``: of the whole fleet."""
    if not choice.where:
        return []
    besides, gone = replace(choice, where=()), Choice(site=choice.site, state=choice.state)
    silent = [
        row["id"]
        for row in rows
        if besides.takes(row) and not (says_labels(row) or row.get("labels"))
    ]
    return [*silent, *(row["id"] for row in away if gone.takes_away(row))]


def says_labels(row: Row) -> bool:
    """Whether its agent is of a version that tells labels, and tells."""
    return row.get("written") is not None


def off_by(row: Row, now: float) -> float | None:
    """How old what the host says is, in seconds, where no agent that works lets it become so old;
    below 0: it comes from the future, so that its age is not known. None: it is as it should be, or
    its agent is of a version that does not tell."""
    written = row.get("written")
    age = 0.0 if written is None else now - written
    return age if abs(age) > OLD else None


def value_of(row: Row, key: str) -> str:
    if key == "stage":
        return shown_stage(row)
    if key in BY_ITSELF:
        return str(row[key] or UNKNOWN)
    nothing = "" if says_labels(row) else UNKNOWN
    return str((row.get("labels") or {}).get(key, nothing))


def totals(rows: Sequence[Row], key: str) -> list[dict[str, Any]]:
    """For each value of a label (empty: the host has none; "?": nobody knows), or of one of
    ``BY_ITSELF``: how many hosts, how many in each stage or state ("?": those that do not say), how
    many with a problem."""
    by: dict[str, list[Row]] = {}
    for row in rows:
        by.setdefault(value_of(row, key), []).append(row)
    return [
        {
            "value": value,
            "hosts": len(those),
            "stages": dict(sorted(Counter(map(shown_stage, those)).items())),
            "with_problems": sum(1 for row in those if row.get("problems")),
        }
        for value, those in sorted(by.items())
    ]


def older(version: str, than: str) -> bool:
    return _numbers(version) < _numbers(than)


def _numbers(version: str) -> list[int]:
    return [int(part) if part.isascii() and part.isdigit() else -1 for part in version.split(".")]
