"""What the loop is told: by the registry, the kernel, workers, commands and signals.

Must never do: decide or do anything. Whoever tells only puts something on the queue.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass

from neti.agent import hangup
from neti.agent.worker import JobDone, JobFailed
from neti.control.server import Request
from neti.control.trouble import Trouble
from neti.dataplane.monitor import NetworkChanged, RulesChanged
from neti.registry import Event


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration again (SIGHUP)."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop this program (SIGTERM, SIGINT); rules and registration stay."""


Told = (
    Event | NetworkChanged | RulesChanged | JobDone | JobFailed | Request | Reload | Stop | Trouble
)


def install_signals(tell: Callable[[Told], None]) -> None:
    """Signals only put something on the queue."""
    signal.signal(signal.SIGHUP, lambda *_: tell(Reload()))
    signal.signal(signal.SIGTERM, lambda *_: tell(Stop()))
    signal.signal(signal.SIGINT, lambda *_: tell(Stop()))
    if hangup.asked():
        tell(Reload())
