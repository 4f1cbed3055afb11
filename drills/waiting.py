"""Waiting for something with an end to patience."""

import contextlib
import time
from collections.abc import Callable

from drills.drill import DrillError
from neti.control.client import AgentUnreachable
from neti.errors import DataplaneError, RegistryUnavailable


def wait_for(
    condition: Callable[[], bool], what: str, *, seconds: float = 60.0, every: float = 0.02
) -> float:
    """Seconds until it holds; DrillError when that takes too long. An agent or registry that does
    not answer yet is waited for too."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(AgentUnreachable, RegistryUnavailable, DataplaneError):
            if condition():
                return time.monotonic() - began
        if time.monotonic() - began > seconds:
            raise DrillError(f"{what} (waited {seconds:.0f} s)")
        time.sleep(every)
