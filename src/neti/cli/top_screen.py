"""The terminal of ``neti top``: the only module that knows curses.

Must never do: leave a terminal otherwise than it was, or let a letter that it cannot show end it.
"""

import curses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from neti.cli.top_spans import Colour, Line, Style
from neti.errors import NetiError

_ESC_MILLISECONDS: Final = 25  # so long after Esc more may come that makes a key of it
_AT_ONCE: Final = 100  # keys that are taken before the screen is drawn again
_PAIRS: Final[dict[Colour, int]] = {
    "green": curses.COLOR_GREEN,
    "cyan": curses.COLOR_CYAN,
    "yellow": curses.COLOR_YELLOW,
    "magenta": curses.COLOR_MAGENTA,
    "red": curses.COLOR_RED,
}
_KEYS: Final = {
    curses.KEY_UP: "up",
    curses.KEY_DOWN: "down",
    curses.KEY_PPAGE: "pageup",
    curses.KEY_NPAGE: "pagedown",
    curses.KEY_HOME: "home",
    curses.KEY_END: "end",
    curses.KEY_ENTER: "enter",
    curses.KEY_BTAB: "backtab",
    curses.KEY_BACKSPACE: "backspace",
}
_LETTERS: Final = {
    "\n": "enter",
    "\r": "enter",
    "\t": "tab",
    "\x1b": "esc",
    "\x7f": "backspace",
    "\b": "backspace",
    "\x15": "ctrl-u",
    "\x0c": "ctrl-l",
}


class Screen:
    """Made by ``screen``. Of the main thread only."""

    def __init__(self, window: curses.window, *, colours: bool) -> None:
        self._window = window
        self._pairs: dict[Colour, int] = {}
        if colours and curses.has_colors():
            curses.start_color()
            background = curses.COLOR_BLACK
            with suppress(curses.error):
                curses.use_default_colors()
                background = -1
            for number, (colour, code) in enumerate(_PAIRS.items(), 1):
                with suppress(curses.error):
                    curses.init_pair(number, code, background)
                    self._pairs[colour] = curses.color_pair(number)

    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        lines, columns = self._window.getmaxyx()
        return columns, lines

    def show(self, lines: Sequence[Line]) -> None:
        self._window.erase()
        for row, made in enumerate(lines):
            column = 0
            for text, style in made:
                self._put(row, column, text, self._attributes(style))
                column += len(text)
        self._window.refresh()

    def _put(self, row: int, column: int, text: str, attributes: int) -> None:
        # The cursor cannot go behind the last column of the last line: that is an error, and drawn.
        with suppress(curses.error):
            try:
                self._window.addstr(row, column, text, attributes)
            except UnicodeEncodeError:  # by the terminal's locale
                shown = text.encode("ascii", "replace").decode("ascii")
                self._window.addstr(row, column, shown, attributes)

    def _attributes(self, style: Style) -> int:
        found = self._pairs.get(style.colour, 0)
        for on, attribute in (
            (style.bold, curses.A_BOLD),
            (style.reverse, curses.A_REVERSE),
            (style.dim, curses.A_DIM),
        ):
            found |= attribute if on else 0
        return found

    def keys(self, seconds: float) -> list[str]:
        """What was pressed, after so many seconds at most: see ``top_view.pressed``."""
        found: list[str] = []
        self._window.timeout(int(seconds * 1000))
        while len(found) < _AT_ONCE:
            try:
                key = self._window.get_wch()
            except curses.error:  # nothing more, or a signal
                break
            self._window.timeout(0)
            if key in ("\x0c", curses.KEY_RESIZE):
                self._window.clearok(True)  # another program wrote over it
            name = _LETTERS.get(key, key) if isinstance(key, str) else _KEYS.get(key, "")
            if name:
                found.append(name)
        return found


@contextmanager
def screen(*, colours: bool) -> Iterator[Screen]:
    """A terminal's, which is as it was afterwards, whatever happens. Raises NetiError where the
    terminal is of no known kind."""
    try:
        window = curses.initscr()
    except curses.error as error:
        raise NetiError(
            f"this terminal cannot show it ({error})\n"
            "→ 'neti fleet' prints the members; or set TERM to what the terminal is"
        ) from None
    try:
        curses.noecho()
        curses.cbreak()
        with suppress(curses.error):  # terminals that always show it
            curses.curs_set(0)
        curses.set_escdelay(_ESC_MILLISECONDS)
        window.keypad(True)
        yield Screen(window, colours=colours)
    finally:
        with suppress(curses.error):  # the terminal may be gone; endwin has it echo again
            window.keypad(False)
            curses.nocbreak()
        with suppress(curses.error):
            curses.curs_set(1)
        with suppress(curses.error):
            curses.endwin()
