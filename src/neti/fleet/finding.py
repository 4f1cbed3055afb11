"""A finding about a host, and what it is made from. Pure; takes and holds values only."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from neti.registry.detail import Document

Light = Literal["green", "yellow", "red"]
Question = Literal["move", "enforce", "retire"]
QUESTIONS: Final[tuple[Question, ...]] = ("move", "enforce", "retire")
LIGHTS: Final[tuple[Light, ...]] = ("green", "yellow", "red")  # each is worse than the one before
A_DAY: Final = 86_400.0  # what runs daily has shown itself by then
SHOWN: Final = 5  # ids or rows in one finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``of``: the questions that it is about; ``then``: what to do, a line each."""

    light: Light
    of: tuple[Question, ...]
    what: str
    then: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the fleet's documents say. ``away``: by id the state of those who are no registered
    members; ``gateways``: those in use; ``here``: the host that is asked about was asked itself;
    ``now``: Unix seconds; ``quiet``: for how many seconds nobody must have called."""

    members: Collection[str]
    told: Mapping[str, Document]
    away: Mapping[str, str]
    now: float
    gateways: frozenset[str] = frozenset()
    here: bool = False
    quiet: float = A_DAY


def worst(found: Iterable[Finding], of: Question | None = None) -> Light:
    """Of the findings about a question, or of all."""
    lights = {one.light for one in found if of is None or of in one.of}
    return next((light for light in reversed(LIGHTS) if light in lights), "green")
