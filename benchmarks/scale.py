"""How much is measured: the whole thing, or the smallest that still tells something."""

import sys
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    sizes: tuple[int, ...]
    rounds: int  # of what takes milliseconds
    slow_rounds: int  # of what takes half a second
    seconds: float  # of what is measured by duration
    sessions: tuple[int, ...]  # that watch one ZooKeeper
    agents: int  # on one embedded registry
    starts: int

    @property
    def largest(self) -> int:
        return self.sizes[-1]


FULL: Final = Scale(
    sizes=(1_000, 5_000, 16_000),
    rounds=120,
    slow_rounds=20,
    seconds=5.0,
    sessions=(100, 1_000, 3_000),
    agents=100,
    starts=5,
)
QUICK: Final = Scale(
    sizes=(1_000,),
    rounds=40,
    slow_rounds=8,
    seconds=1.0,
    sessions=(100, 300),
    agents=10,
    starts=1,
)
TINY: Final = Scale(
    sizes=(50,), rounds=3, slow_rounds=2, seconds=0.2, sessions=(5,), agents=2, starts=1
)


def say(what: str) -> None:
    """Progress, where somebody looks."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)
