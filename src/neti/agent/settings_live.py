"""The two fleet-wide numbers that live in the registry: nonsense in them is ignored and named."""

from dataclasses import dataclass, field

from neti.registry import SettingRead, numbers
from neti.registry.numbers import Number, NumberUnreadable


@dataclass(slots=True)
class LiveSettings:
    """``interval``: seconds over which changes are gathered, 0-60. ``maxchange``: removals let
    through in a window, 1-10,000. ``faults``: what was ignored, by setting."""

    interval: float = numbers.default("interval")
    maxchange: int = int(numbers.default("maxchange"))
    faults: dict[str, str] = field(default_factory=dict)

    def take(self, read: SettingRead) -> None:
        if read.setting == "interval":
            self.interval = self._number("interval", read.value)
        elif read.setting == "maxchange":
            self.maxchange = int(self._number("maxchange", read.value))

    def _number(self, setting: Number, raw: bytes | None) -> float:
        self.faults.pop(setting, None)
        try:
            return numbers.decode(setting, raw)
        except NumberUnreadable as error:
            self.faults[setting] = str(error)
            return numbers.default(setting)
