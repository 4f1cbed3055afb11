"""Since when other members have WireGuard keys while this host encrypts nothing.

In a roll-out of ``prefer`` that is so on every host whose turn has not come, and nothing is wrong.
Where they had keys before this agent came, or long after, this host has been forgotten.

Must never do: take a registry that was not read yet for one without keys.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from neti.agent.core import Core

_ROLL_OUT: Final = 86_400.0  # seconds that one may take
_READ: Final = 60.0  # seconds in step after which records have been read


class OthersKeys:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: "Core") -> None:
        self._core = core
        self._none: float | None = None  # since when nobody had any, in steady seconds
        self._since: float | None = None

    @property
    def count(self) -> int:
        keys = self._core.members.fleet.keys
        return len(keys) - (self._core.host.id in keys)

    def look(self) -> None:
        """In each turn of the loop."""
        core = self._core
        if core.own_key.wanted:
            self._none = self._since = None
        elif not self.count:
            self._since = None
            if self._none is None and core.in_step.fresh:
                self._none = core.since()
        elif self._since is None:
            now = core.since()
            came = self._none is not None and now - self._none >= _READ
            self._none, self._since = None, now if came else now - _ROLL_OUT

    @property
    def rolling_out(self) -> bool:
        """Whether a roll-out that this agent has seen begin may still be under way."""
        return self._since is not None and self._core.since() - self._since < _ROLL_OUT
