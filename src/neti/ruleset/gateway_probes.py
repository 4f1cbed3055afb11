"""Which gateways pass on what is sent to them, by probes: whom to ask, and what follows. Pure.

A gateway is believed dead when three questions in a row stay unanswered, and alive again after
three answers in a row. Only questions that were asked count: a host that stood still has asked
nothing meanwhile, so it believes nothing else than before. One that this host's own kernel refused
counts as unanswered, as what WireGuard sends there is refused too.

Must never do: believe an answer to a question that was not asked of this gateway; take silence to
more than three questions for more than that.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from neti.ruleset.gateway_choice import Belief

PATIENCE: Final = 1.0  # seconds for an answer
_IN_USE: Final = 1.0  # seconds between two questions to one that this host sends to
_IN_DOUBT: Final = 0.5  # while one in use has not answered, or this one; or while it comes back
_IDLE: Final = 10.0  # to any other
_IN_A_ROW: Final = 3


@dataclass(frozen=True, slots=True)
class Question:
    """``word``: what the gateway is to send back."""

    gateway: str
    to: IPv4Address
    word: bytes


@dataclass(slots=True)
class _Probed:
    to: IPv4Address
    used: bool = False
    asked: float = float("-inf")
    waits: dict[bytes, float] = field(default_factory=dict)  # by word, when it was asked
    missed: int = 0  # in a row
    heard: int = 0  # in a row
    answered: bool = False  # since it was last dead. One that is lost on the road changes nothing
    dead: bool = False
    presumed: bool = False  # dead, by somebody who was here before

    @property
    def in_doubt(self) -> bool:
        if self.presumed:
            return True
        return self.heard > 0 if self.dead else self.missed > 0


class GatewayProbes:
    """Not thread-safe. Times are CLOCK_MONOTONIC seconds. ``new_word``: random bytes that nobody
    can guess."""

    def __init__(self, new_word: Callable[[], bytes]) -> None:
        self._new_word = new_word
        self._probed: dict[str, _Probed] = {}

    @property
    def belief(self) -> Belief:
        """Those that were never heard and are not dead are unknown."""
        every = self._probed.items()
        return Belief(
            dead=frozenset(one for one, probed in every if probed.dead),
            answering=frozenset(one for one, it in every if it.answered and not it.dead),
            presumed=frozenset(one for one, probed in every if probed.presumed),
        )

    def follow(self, places: Mapping[str, IPv4Address], used: Collection[str]) -> None:
        """From now on these are asked, by id. ``used``: those that this host sends to, or would if
        they were alive. What is believed of one stays while it is at the same place."""
        self._probed = {
            one: probed
            if (probed := self._probed.get(one)) is not None and probed.to == to
            else _Probed(to)
            for one, to in places.items()
        }
        for one, probed in self._probed.items():
            probed.used = one in used

    def presume(self, held: Collection[str]) -> None:
        """Of those that were not judged yet: ``held`` answer, others are dead until they answer as
        one that comes back."""
        for one, probed in self._probed.items():
            if not (probed.heard or probed.missed):
                probed.answered = one in held
                probed.dead = probed.presumed = not probed.answered

    def hear(self, word: bytes, source: IPv4Address) -> None:
        """Came back. An answer to nothing that is waited for changes nothing."""
        for probed in self._probed.values():
            if probed.to == source and probed.waits.pop(word, None) is not None:
                probed.missed = 0
                probed.heard += 1
                probed.answered = True
                probed.dead = probed.dead and probed.heard < _IN_A_ROW
                probed.presumed = probed.presumed and probed.dead
                return

    def judge(self, now: float) -> None:
        """All answers that have come by ``now`` must have been heard."""
        for probed in self._probed.values():
            late = [word for word, asked in probed.waits.items() if now >= asked + PATIENCE]
            for word in late:
                del probed.waits[word]
                probed.heard = 0
                probed.missed += 1
            if probed.missed >= _IN_A_ROW:
                probed.dead, probed.presumed, probed.answered = True, False, False

    def questions(self, now: float) -> list[Question]:
        """Those that are due. Each counts as asked."""
        due = []
        for one, probed in self._probed.items():
            if now >= probed.asked + self._every(probed):
                probed.asked = now
                due.append(Question(one, probed.to, self._new_word()))
                probed.waits[due[-1].word] = now
        return due

    def due(self) -> float | None:
        """When to hear, judge and ask again; None: there is nobody to be asked."""
        times = [
            min((probed.asked + self._every(probed), *(t + PATIENCE for t in waits)))
            for probed in self._probed.values()
            for waits in (probed.waits.values(),)
        ]
        return min(times, default=None)

    def _every(self, probed: _Probed) -> float:
        if probed.in_doubt or any(p.used and p.in_doubt for p in self._probed.values()):
            return _IN_DOUBT
        return _IN_USE if probed.used else _IDLE
