"""What a command asks this host's agent beside its work, and can do without.

An agent that hangs must not keep such a command, and must not look as if somebody else did: so it
is waited for once, for two seconds, and whoever was waited for in vain is known afterwards.

Must never do: let a command end as if it had asked.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from neti.control import client
from neti.control.client import AgentSilent

PATIENCE: Final = 2.0  # seconds
_AGAIN: Final = 30.0  # seconds after which one that did not answer is asked again


class Asides:
    """Of one process. Thread-safe. ``now``: seconds, only for spans."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._under_way = 0
        self._silent: dict[Path, tuple[float, AgentSilent]] = {}

    def ask(self, folder: Path, command: str) -> Any:
        """As ``client.call``. Raises AgentUnreachable at once where the agent did not answer a
        moment ago."""
        with self._lock:
            before = self._silent.get(folder)
            if before is not None and self._now() < before[0] + _AGAIN:
                raise before[1]
            self._under_way += 1
        silent: AgentSilent | None = None
        try:
            return client.call(folder, command, within=PATIENCE)
        except AgentSilent as error:
            silent = error
            raise
        finally:
            with self._lock:
                self._under_way -= 1
                if silent is not None:
                    self._silent[folder] = self._now(), silent
                else:
                    self._silent.pop(folder, None)

    @property
    def under_way(self) -> bool:
        """Whether an agent is waited for at this moment."""
        return self._under_way > 0

    def in_vain(self, folder: Path | None = None) -> str | None:
        """Of the agent of this folder (None: of any) that was waited for in vain: that it does not
        answer, and what to do; None: it answered, or there is none."""
        with self._lock:
            found = (str(error) for at, (_, error) in self._silent.items() if folder in (None, at))
            return next(found, None)

    def forget(self) -> None:
        """Another command begins."""
        with self._lock:
            self._silent.clear()


ASIDES: Final = Asides()
