"""Finds the drills, runs them in order, and prints one table. Decides the exit code, nothing else.

Must never do: call a drill good that did not come to its end, or that compared nothing.
"""

import contextlib
import importlib
import pkgutil
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from types import FrameType
from typing import Final, NoReturn, cast

from rich.console import Console
from rich.text import Text

import drills
from drills.drill import Drill, DrillError, Row, Run, Scale
from neti.errors import NetiError
from neti_lab.stage import verdict

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class Outcome:
    """What became of one drill."""

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return bool(self.rows) and all(row.ok for row in self.rows)


def names() -> list[str]:
    """Of all drills, in order: ``d03_streams`` and so on."""
    found = (module.name for module in pkgutil.iter_modules(drills.__path__))
    return sorted(name for name in found if name[0] == "d" and name[1:3].isdigit())


def chosen(words: Sequence[str]) -> list[str]:
    """The drills that these words mean: a number, or (part of) a name. DrillError for others."""
    if not words:
        return names()
    found: list[str] = []
    for word in words:
        number = f"d{int(word):02d}_" if word.isdigit() else word
        meant = [name for name in names() if number in name]
        if not meant:
            raise DrillError(f"there is no drill {word!r}: there are {', '.join(names())}")
        found += [name for name in meant if name not in found]
    return sorted(found)


def load(name: str) -> Drill:
    return cast("Drill", importlib.import_module(f"drills.{name}"))


def run_one(
    name: str,
    *,
    scale: Scale,
    seed: int,
    say: Callable[[str], None] = lambda text: None,
    found: Callable[[Row], None] = lambda row: None,
) -> Outcome:
    """The drill from beginning to end. Everything that it built is gone afterwards."""
    module = load(name)
    outcome = Outcome(name, module.TITLE)

    def add(row: Row) -> None:
        outcome.rows.append(row)
        found(row)

    began = monotonic()
    run = Run(name, scale=scale, seed=seed, say=say)
    try:
        with _taken_down(run), contextlib.closing(module.run(run)) as rows:
            for row in rows:
                add(row)
        add(_others_row(run))
    except NetiError as error:
        add(Row("the drill did not finish", str(error), False))
    except Exception as error:
        trace = " < ".join(
            f"{frame.name}:{frame.lineno}"
            for frame in reversed(traceback.extract_tb(error.__traceback__)[-3:])
        )
        add(Row("the drill broke", f"{type(error).__name__}: {error} ({trace})", False))
    outcome.seconds = monotonic() - began
    return outcome


@contextlib.contextmanager
def _taken_down(run: Run) -> Iterator[None]:
    """The run's end comes to its end: a second Ctrl-C does not interrupt it."""
    try:
        yield
    finally:
        with undisturbed(), run:
            pass


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM and a lost terminal end a run like Ctrl-C: by way of its teardown."""
    raise KeyboardInterrupt


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """No signal to end has an effect within."""
    before = {number: signal.getsignal(number) for number in _STOPPING}
    with contextlib.suppress(ValueError):  # not in the main thread: nobody interrupts it
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            for number, former in before.items():
                signal.signal(number, former)


def _others_row(run: Run) -> Row:
    """The check that every drill ends with."""
    compared = run.compared
    if compared.differences:
        more = len(compared.differences) - 1
        figure = compared.differences[0] + (f" (and {more} more)" if more else "")
    else:
        figure = f"the same on {compared.hosts} hosts"
    good = bool(compared.hosts) and not compared.differences
    return Row("rules, routes, sysctls of others, before and after", figure, good)


class Table:
    """Progress as it happens, and the table at the end."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)

    def begin(self, name: str, title: str) -> None:
        self._print(Text(f"\n{number_of(name)}. {title}", "bold"))

    def say(self, text: str) -> None:
        if self._console.is_terminal:
            self._print(Text(f"   … {text}", "dim"))

    def found(self, row: Row) -> None:
        self._print(Text("   ").append(*_mark(row)).append(f"  {row.what}: {row.figure}"))

    def whole(self, outcome: Outcome) -> None:
        """Of a drill that has ended, where several play at once."""
        self.begin(outcome.name, f"{outcome.title} ({outcome.seconds:.0f} s)")
        for row in outcome.rows:
            self.found(row)

    def close(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        rows = [(number_of(o.name), row) for o in outcomes for row in o.rows]
        width = max((len(row.what) for _, row in rows), default=0)
        self._print(Text(""))
        for number, row in rows:
            line = Text(f"{number:>2}  {row.what.ljust(width)}  ")
            self._print(line.append(*_mark(row)).append(f"  {row.figure}"))
        failed = [f"{number} {row.what}" for number, row in rows if not row.ok]
        self._print(Text(f"\n{verdict(len(rows), failed)} ({seconds:.0f} s)", "bold"))

    def _print(self, what: Text) -> None:
        self._console.print(what, soft_wrap=True)


def number_of(name: str) -> int:
    """``d03_streams`` → 3, the number in the list of drills."""
    return int(name[1:3])


def _mark(row: Row) -> tuple[str, str]:
    return ("ok    ", "green") if row.ok else ("NOT OK", "bold red")
