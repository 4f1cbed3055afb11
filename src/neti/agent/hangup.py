"""SIGHUP before there is an agent that could read its configuration again.

By default the signal ends the program, and a supervisor may take that for a clean exit. A start may
take minutes, because the metadata service is asked until it answers.

Must never do: import anything slow, because nothing handles the signal before ``heed``.
"""

import signal
from typing import Final

_asked: Final[list[bool]] = []


def heed() -> None:
    """The agent's program calls this first, before it reads its configuration."""
    signal.signal(signal.SIGHUP, _note)


def asked() -> bool:
    """Whether a reload was asked for since then: what was read may be older than that."""
    return bool(_asked)


def _note(*_: object) -> None:
    _asked.append(True)
