"""SIGHUP before there is an agent that could read its configuration again.

By default it ends the program, and a supervisor may take that for a clean exit. A start may last
for minutes: the metadata service is asked for as long as it is silent.

Must never do: import anything that takes time, because until ``heed`` nobody listens.
"""

import signal
from typing import Final

_asked: Final[list[bool]] = []


def heed() -> None:
    """The first thing that the agent's program does: before it reads its configuration."""
    signal.signal(signal.SIGHUP, _note)


def asked() -> bool:
    """Whether somebody asked for a reload since then. What was read may be older than that."""
    return bool(_asked)


def _note(*_: object) -> None:
    _asked.append(True)
