"""How the demo tells its story: numbered scenes with progress, then findings, then a table.

On a terminal the running scene has a spinner; elsewhere everything is plain lines, in order.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import click
from rich.console import Console
from rich.text import Text

from neti.cli.looks import folded


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what, whether it was as it should be, and the figure."""

    what: str
    ok: bool
    figure: str


class Stage:
    def __init__(self, console: Console | None = None) -> None:
        context = click.get_current_context(silent=True)
        plain = context is not None and context.color is False
        self._console = console or Console(highlight=False, no_color=plain or None)
        self.findings: list[Finding] = []
        self._scenes = 0
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the curtain rose."""
        return time.monotonic() - self._began

    @contextlib.contextmanager
    def scene(self, title: str, *, number: str | None = None) -> Iterator[Callable[[str], None]]:
        """Yields what changes the spinner's text; elsewhere than on a terminal it does nothing.
        ``number``: somebody else's; empty: it has none; None: it is counted."""
        self._scenes += 1
        shown = str(self._scenes) if number is None else number
        self._console.print()
        self._line(f"{shown}. {title}" if shown else title, style="bold")
        if not self._console.is_terminal:
            yield lambda text: None
            return
        with self._console.status(title) as status:
            yield status.update

    def say(self, text: str = "") -> None:
        width = self._console.width if self._console.is_terminal else None
        for line in text.splitlines() or [""]:
            self._line(folded(f"   {line}", width))

    def find(self, what: str, ok: bool, figure: str) -> None:
        """Say what was found, and keep it for the table at the end."""
        finding = Finding(what, ok, figure)
        self.findings.append(finding)
        line = Text("   ")
        line.append(*_mark(finding))
        line.append(f"  {what}: {figure}")
        self._print(line)

    def close(self) -> bool:
        """Print the closing table; True when everything was as it should be."""
        self._console.print()
        width = max((len(finding.what) for finding in self.findings), default=0)
        for finding in self.findings:
            line = Text(f"{finding.what.ljust(width)}  ")
            line.append(*_mark(finding))
            line.append(f"  {finding.figure}")
            self._print(line)
        failed = [finding.what for finding in self.findings if not finding.ok]
        self._console.print()
        self._line(f"{verdict(len(self.findings), failed)} ({self.seconds:.0f} s)")
        return not failed

    def _line(self, text: str, style: str = "") -> None:
        self._print(Text(text, style))

    def _print(self, what: Text) -> None:
        # Never cropped or wrapped: a matrix that is too wide for the window is still a matrix.
        self._console.print(what, soft_wrap=True)


def one_line(error: Exception) -> str:
    """With its next steps, for a table."""
    return "; ".join(line.removeprefix("→ ") for line in str(error).splitlines())


def verdict(checks: int, failed: Sequence[str]) -> str:
    """The last line of a run: how many checks passed, and the names of those that did not."""
    if not failed:
        return f"All {checks} checks passed."
    return f"{checks - len(failed)} of {checks} checks passed. Failed: {'; '.join(failed)}."


def _mark(finding: Finding) -> tuple[str, str]:
    """The word and its style."""
    return ("ok", "green") if finding.ok else ("NOT OK", "bold red")
