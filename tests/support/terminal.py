"""A terminal without a window: a program runs in it, and what it draws can be read.

It knows as much of a VT100 as curses needs of it.
"""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

_HANGS = 60.0  # seconds: only a program that hangs takes so long
_SEQUENCE = re.compile(r"\x1b(?:\[([?>]?)([\d;]*)([@-~])|[()][A-Z0-9]|[=>78DEHMc])")


class Picture:
    """What the program has drawn; its text by lines, and what it looks like by ``looks``."""

    def __init__(self, columns: int, lines: int) -> None:
        self.resize(columns, lines)
        self.looks: set[str] = set()
        self._rest = ""

    def resize(self, columns: int, lines: int) -> None:
        self.columns, self.lines = columns, lines
        self._cells = [[" "] * columns for _ in range(lines)]
        self._row = self._column = 0

    def text(self) -> str:
        return "\n".join("".join(row).rstrip() for row in self._cells)

    def draw(self, text: str) -> None:
        text, self._rest, at = self._rest + text, "", 0
        while at < len(text):
            if text[at] == "\x1b":
                found = _SEQUENCE.match(text, at)
                if found is None:
                    assert len(text) - at < 20, f"not known: {text[at : at + 20]!r}"
                    self._rest = text[at:]
                    return
                self._obey(*found.groups())
                at = found.end()
            else:
                self._put(text[at])
                at += 1

    def _put(self, letter: str) -> None:
        match letter:
            case "\r":
                self._column = 0
            case "\n":
                self._row = min(self._row + 1, self.lines - 1)
            case "\b":
                self._column = max(0, self._column - 1)
            case "\t":
                self._column = min((self._column // 8 + 1) * 8, self.columns - 1)
            case _ if letter >= " ":
                if self._column == self.columns:
                    self._row, self._column = min(self._row + 1, self.lines - 1), 0
                self._cells[self._row][self._column] = letter
                self._column += 1

    def _obey(self, private: str | None, numbers: str | None, what: str | None) -> None:
        given = [int(one or 0) for one in (numbers or "").split(";")]
        first = max(1, given[0])
        second = max(1, given[1]) if len(given) > 1 else 1
        row, column = self._row, min(self._column, self.columns - 1)
        moves = {
            "H": (first - 1, second - 1),
            "A": (row - first, column),
            "B": (row + first, column),
            "C": (row, column + first),
            "D": (row, column - first),
            "G": (row, first - 1),
            "d": (first - 1, column),
        }
        if what in moves:
            row, column = moves[what]
            self._row = max(0, min(row, self.lines - 1))
            self._column = max(0, min(column, self.columns - 1))
            return
        match what:
            case "K":
                begin, end = (0, column + 1) if given[0] == 1 else (column, self.columns)
                self._cells[self._row][begin:end] = [" "] * (end - begin)
            case "J":
                begin = 0 if given[0] == 2 else self._row + 1
                if given[0] != 2:
                    self._cells[self._row][column:] = [" "] * (self.columns - column)
                for row in range(begin, self.lines):
                    self._cells[row] = [" "] * self.columns
            case "X":
                end = min(self.columns, column + first)
                self._cells[self._row][column:end] = [" "] * (end - column)
            case "m":
                self.looks.add(numbers or "0")
            case None | "h" | "l" | "r" | "t":
                pass
            case _:
                raise AssertionError(f"not known: {private}{numbers}{what}")


class Terminal:
    """``exit_code``: None as long as the program runs."""

    def __init__(self, master: int, slave: int, program: "subprocess.Popen[bytes]") -> None:
        self._master, self._slave, self._program = master, slave, program
        self.picture = Picture(80, 24)
        self.all = ""

    @property
    def pid(self) -> int:
        return self._program.pid

    def modes(self) -> list[Any]:
        """How the terminal takes keys."""
        return termios.tcgetattr(self._slave)

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        self.picture.resize(columns, lines)
        _size(self._slave, columns, lines)

    def shows(self, *words: str) -> str:
        """Waits until all of these are there."""
        return self._until(lambda text: all(word in text for word in words), words)

    def ends(self) -> int:
        """Waits until the program has ended."""
        while self._program.poll() is None:
            self._read(0.05)
        while self._read(0.0):
            pass
        return self._program.returncode

    def _until(self, seen: Callable[[str], bool], what: object) -> str:
        until = time.monotonic() + _HANGS
        while not seen(self.picture.text()):
            assert self._program.poll() is None, f"ended: {self.all[-2000:]}"
            assert time.monotonic() < until, f"{what} not in\n{self.picture.text()}"
            self._read()
        return self.picture.text()

    def _read(self, seconds: float = 1.0) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            said = os.read(self._master, 65536).decode(errors="replace")
        except OSError:  # so Linux says that nobody has it open any more
            return False
        self.all += said
        self.picture.draw(said)
        return True


@contextmanager
def terminal(command: Sequence[str], more: Mapping[str, str]) -> Iterator[Terminal]:
    """One of 80 by 24 in which this runs, with more in its environment. Ended afterwards."""
    master, slave = pty.openpty()
    _size(slave, 80, 24)
    environment = {k: v for k, v in os.environ.items() if k not in ("LINES", "COLUMNS", "NO_COLOR")}
    program = subprocess.Popen(
        ("setsid", "--ctty", *command),  # so that Ctrl-C reaches it
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**environment, "TERM": "vt100", **more},
    )
    try:
        yield Terminal(master, slave, program)
    finally:
        with suppress(ProcessLookupError):
            program.kill()
        program.wait()
        os.close(master)
        os.close(slave)


def _size(slave: int, columns: int, lines: int) -> None:
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
