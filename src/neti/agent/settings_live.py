"""The two fleet-wide settings that live in the registry: nonsense in them is ignored and named."""

from dataclasses import dataclass, field
from typing import Final

from neti.registry import SettingRead

INTERVAL_DEFAULT: Final = 0.2
MAXCHANGE_DEFAULT: Final = 20
_SHOWN: Final = 40


@dataclass(slots=True)
class LiveSettings:
    """``interval``: seconds over which changes are gathered, 0-60. ``maxchange``: removals let
    through in a window, 1-10,000. ``faults``: what was ignored, by setting."""

    interval: float = INTERVAL_DEFAULT
    maxchange: int = MAXCHANGE_DEFAULT
    faults: dict[str, str] = field(default_factory=dict)

    def take(self, read: SettingRead) -> None:
        self.faults.pop(read.setting, None)
        text = (read.value or b"").decode(errors="replace").strip()
        if read.setting == "interval":
            self.interval = self._number(read.setting, text, INTERVAL_DEFAULT, 0, 60)
        elif read.setting == "maxchange":
            self.maxchange = int(
                self._number(read.setting, text, MAXCHANGE_DEFAULT, 1, 10_000, whole=True)
            )

    def _number(
        self, name: str, text: str, default: float, low: float, high: float, *, whole: bool = False
    ) -> float:
        if not text:
            return default
        try:
            value = float(int(text) if whole else float(text))
        except ValueError:
            value = float("nan")
        if low <= value <= high:  # false for nan
            return value
        kind = "a whole number" if whole else "a number"
        self.faults[name] = (
            f"the fleet-wide setting {name} is {text[:_SHOWN]!r}, expected {kind} "
            f"from {low:g} to {high:g}: ignored, {default:g} is used"
        )
        return default
