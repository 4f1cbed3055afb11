"""What the agent tells of itself for the metrics: the document's type. Pure.

It crosses a process (``neti metrics``), and the command may be of another version than the agent:
see ``neti.model.document``. A missing key means that the figure is not known.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from neti.model.groups import PortsState
from neti.monitoring.encryption import Encryption

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Distribution:
    """``bounds``: upper bounds in seconds. ``counts``: how many lie in each, not cumulative; one
    more than there are bounds, for what is above all of them. ``total``: the sum, in seconds."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


@dataclass(frozen=True, slots=True)
class Conntrack:
    """None where the kernel does not track connections."""

    count: int | None = None
    max: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """``sites``: members by site. ``problems``: how many of each severity; ``codes``: (code,
    severity) of each kind that there is now. ``failures``: trials in a row that ended unconfirmed.
    ``counters``: packets by the name of the kernel's counter; empty where it could not be read.
    ``passed_bytes``: likewise bytes, on a gateway; None: this host is none.
    ``apply`` and ``change``: see ``neti.monitoring.histogram``. ``encryption``: None where no pair
    of this host's site encrypts. ``member_ports``: as ``Status`` has it. ``openings``:
    how many there are."""

    format: int = FORMAT
    version: str
    site: str
    registry: str
    sites: Mapping[str, int]
    lost: int
    held: int
    skipped: int
    problems: Mapping[str, int]
    codes: tuple[tuple[str, str], ...] = ()
    registered: bool
    fresh: bool
    stale_seconds: float
    stage: str
    wished: bool
    relaxed: bool = False
    failures: int
    down: bool
    counters: Mapping[str, int]
    passed_bytes: Mapping[str, int] | None = None
    apply: Distribution
    change: Distribution
    repairs: int
    fight: bool
    conntrack: Conntrack = field(default_factory=Conntrack)
    encryption: Encryption | None = None
    member_ports: PortsState = "none"
    openings: int | None = None
