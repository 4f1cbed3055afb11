"""The two fleet-wide settings that are numbers: what they may be, and what holds without. Pure.

``interval``: seconds over which agents gather changes; ``maxchange``: removals that one lets
through in a window. Must never do: raise anything but NumberUnreadable, whatever the text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from neti.errors import RegistryError

Number = Literal["interval", "maxchange"]
_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class _Bounds:
    default: float
    low: float
    high: float
    whole: bool = False


_BOUNDS: Final[Mapping[Number, _Bounds]] = {
    "interval": _Bounds(0.2, 0, 60),
    "maxchange": _Bounds(20, 1, 10_000, whole=True),
}


class NumberUnreadable(RegistryError):
    """It is no such number; the default holds."""


def default(setting: Number) -> float:
    return _BOUNDS[setting].default


def decode(setting: Number, raw: bytes | None) -> float:
    """The default where nobody set it. Raises NumberUnreadable."""
    text, within = (raw or b"").decode(errors="replace").strip(), _BOUNDS[setting]
    if not text:
        return within.default
    try:
        value = float(int(text) if within.whole else float(text))
    except ValueError:
        value = float("nan")
    if within.low <= value <= within.high:  # false for nan
        return value
    kind = "a whole number" if within.whole else "a number"
    raise NumberUnreadable(
        f"the fleet-wide setting {setting} is {text[:_SHOWN]!r}, expected {kind} from "
        f"{within.low:g} to {within.high:g}: ignored, {within.default:g} is used"
    )
