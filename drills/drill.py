"""What every drill is given, and what it gives back: a Run and its Rows."""

import os
import random
import tempfile
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Protocol, Self, TypeVar

from neti.errors import NetiError

T = TypeVar("T")
PREFIX: Final = "neti-drill-"  # of namespaces and folders; behind it the process id
Scale = Literal["full", "short", "long"]


class DrillError(NetiError):
    """The drill could not come to its end: what was waited for, where, and what was seen."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was looked at: what, the figure, and whether it is as it should be."""

    what: str
    figure: str
    ok: bool


@dataclass(slots=True)
class Compared:
    """What was found outside ``table inet neti``: hosts looked at, and every difference."""

    hosts: int = 0
    differences: list[str] = field(default_factory=list)


class Run:
    """One run of one drill. As a context manager it takes down all that was built with it."""

    def __init__(
        self, name: str, *, scale: Scale, seed: int, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self.name = name
        self.scale = scale
        self.seed = seed
        self.say = say
        self.stack = ExitStack()
        self.compared = Compared()

    def of(self, *, full: T, short: T, long: T | None = None) -> T:
        """The measure of something in this run's scale; ``full`` where it has no longer one."""
        if self.scale == "short":
            return short
        return long if self.scale == "long" and long is not None else full

    def chance(self, about: str) -> random.Random:
        """Chance that is the same in every run with this seed, whatever else is drawn."""
        return random.Random(f"{self.seed}/{self.name}/{about}")

    def folder(self) -> Path:
        """A new folder that goes with the run."""
        made = tempfile.TemporaryDirectory(
            prefix=f"{PREFIX}{os.getpid()}-", ignore_cleanup_errors=True
        )
        return Path(self.stack.enter_context(made))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stack.close()


Rows = Generator[Row, None, None]


class Drill(Protocol):
    """A module ``drills.dNN_name``."""

    TITLE: str

    def run(self, drill: Run) -> Rows:
        """Its rows, as they are found. Raises DrillError when it cannot go on."""
