"""The one way from a command to this host's agent: a word after two seconds, an end after ten.

Must never do: import what ``neti relax`` and ``neti down`` can do without, or leave whoever waits
in doubt about what is waited for and for how long.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from neti.cli.output import say
from neti.control import client
from neti.control.aside import ASIDES

_FIRST_WORD: Final = 2.0  # seconds


def ask(
    folder: Path,
    command: str,
    *,
    then: str = "this command gives up",
    within: float = client.PATIENCE,
    **arguments: Any,
) -> Any:
    """As ``client.call``. ``then``: what happens when the agent has not answered ``within`` so many
    seconds."""
    with waiting(within, then):
        return client.call(folder, command, within=within, **arguments)


@contextmanager
def waiting(
    seconds: float, then: str, *, who: str = "the agent", why: Callable[[], str] = str
) -> Iterator[None]:
    """A word on stderr when the agent, or the registry, keeps an operator waiting. ``why``: what is
    in the way, as far as it is known by then; empty: nothing is.

    Where this host's agent is asked beside, it is that one who is waited for, for less time than it
    takes to say so; it is named at the command's end."""
    over = threading.Event()

    def speak() -> None:
        while not over.wait(_FIRST_WORD):
            if not ASIDES.under_way:
                reason = f" ({why()})" if why() else ""
                waited = f"has not answered for {_FIRST_WORD:.0f} s{reason}"
                say(f"neti: {who} {waited}; after {seconds:.0f} s {then}", err=True)
                return

    with suppress(RuntimeError):  # no thread to be had: then without a word
        threading.Thread(target=speak, daemon=True).start()
    try:
        yield
    finally:
        over.set()
