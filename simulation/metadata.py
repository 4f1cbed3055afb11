"""The cloud's metadata service of one machine: who it is, or no answer, or one that is odd.

What the agent asks of it is ``neti.identity.discover``. Must never do: answer two odd things in a
row, since the second one is believed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from neti.identity.source import SourceSilent
from neti.model import Host


@dataclass(slots=True)
class SimulatedMetadata:
    """``silent``: it does not answer. ``odd``: its next answer leaves the public address out."""

    truth: Callable[[], Host]
    silent: bool = False
    odd: bool = False
    _was_odd: bool = False

    def answer(self) -> Host:
        if self.silent:
            raise SourceSilent("the metadata service does not answer")
        odd, self.odd = self.odd and not self._was_odd, False
        self._was_odd = odd
        host = self.truth()
        return replace(host, public=None) if odd else host

    def works_again(self) -> None:
        self.silent = self.odd = False
