"""How the demo tells its story: numbered scenes with progress, then findings, then a table.

On a terminal the running scene has a spinner; elsewhere everything is plain lines, in order.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what, whether it was as it should be, and the figure."""

    what: str
    ok: bool
    figure: str


class Stage:
    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self.findings: list[Finding] = []
        self._scenes = 0
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the curtain rose."""
        return time.monotonic() - self._began

    @contextlib.contextmanager
    def scene(self, title: str) -> Iterator[None]:
        self._scenes += 1
        self._console.print()
        self._line(f"{self._scenes}. {title}", style="bold")
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(title):
            yield

    def say(self, text: str = "") -> None:
        for line in text.splitlines() or [""]:
            self._line(f"   {line}")

    def find(self, what: str, ok: bool, figure: str) -> None:
        """Say what was found, and keep it for the table at the end."""
        self.findings.append(Finding(what, ok, figure))
        mark, style = ("ok", "green") if ok else ("NOT OK", "bold red")
        line = Text("   ")
        line.append(mark, style)
        line.append(f"  {what}: {figure}")
        self._print(line)

    def close(self) -> bool:
        """Print the closing table; True when everything was as it should be."""
        self._console.print()
        if self._console.is_terminal:
            self._print(_rich_table(self.findings))
        else:
            width = max((len(finding.what) for finding in self.findings), default=0)
            for finding in self.findings:
                self._line(
                    f"{finding.what.ljust(width)}  {_result(finding).ljust(6)}  {finding.figure}"
                )
        bad = sum(not finding.ok for finding in self.findings)
        verdict = f"{bad} NOT as it should be" if bad else "everything as it should be"
        self._console.print()
        self._line(f"{len(self.findings)} findings in {self.seconds:.0f} s: {verdict}.")
        return not bad

    def _line(self, text: str, style: str = "") -> None:
        self._print(Text(text, style))

    def _print(self, what: Text | Table) -> None:
        # Never cropped or wrapped: a matrix that is too wide for the window is still a matrix.
        self._console.print(what, soft_wrap=True)


def _result(finding: Finding) -> str:
    return "ok" if finding.ok else "NOT OK"


def _rich_table(findings: Sequence[Finding]) -> Table:
    table = Table("What", "Result", "Figure")
    for finding in findings:
        style = "green" if finding.ok else "bold red"
        table.add_row(finding.what, Text(_result(finding), style), finding.figure)
    return table
