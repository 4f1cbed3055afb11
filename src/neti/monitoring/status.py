"""What the agent tells of itself for ``neti status``: the document's types. Pure.

It crosses a process, and the command may be of another version than the agent: see
``neti.model.document``. Programs read it too (``neti status --json``), so within one format no key
changes its meaning or goes away; docs/operations.md describes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from neti.errors import NetiError
from neti.model.document import DocumentError, plain, read
from neti.model.groups import PortsState
from neti.model.problems import Problem, problems_in
from neti.monitoring.encryption import Encryption
from neti.monitoring.opened import Opened
from neti.stage.evidence import Finding

FORMAT: Final = 2  # format 1 had no number, and its problems were sentences


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was decided about reject_all, and who said it. ``configured``: what neti.yml says.
    ``said_at``, ``relaxed_until``: Unix seconds."""

    reject_all: bool = False
    by: str = ""
    configured: bool | None = None
    said_at: float | None = None
    said_by: str = ""
    relaxed_until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A trial that runs. ``why``: what is missing for it to be confirmed. ``of``: what it is of,
    "reject_all", "encryption" (that is required between sites) or both."""

    state: Literal["running"] = "running"
    seconds_left: float
    seconds: int | None = None
    confirms: Literal["operator", "evidence"] = "evidence"
    why: tuple[str, ...] = ()
    of: tuple[str, ...] = ("reject_all",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """The last trial, which ended unconfirmed. ``retry_at``: Unix seconds."""

    state: Literal["expired"] = "expired"
    seconds_left: float = 0
    failures: int = 0
    retry_at: float | None = None
    why: tuple[str, ...] = ()
    of: tuple[str, ...] = ("reject_all",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """``reason``: why it is not in step. ``fresh_since``: Unix seconds. ``stale_seconds``: None
    while in step."""

    kind: str = "zookeeper"
    fresh: bool
    reason: str | None = None
    fresh_since: float | None = None
    stale_seconds: float | None = None

    @property
    def stale(self) -> float | None:
        """For how long it has not been in step; None: it is not, and since when is not known."""
        return 0.0 if self.fresh else self.stale_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """Counts. ``lost``: without those that are held. ``unreachable``: without an address for this
    host's site."""

    total: int = 0
    lost: int = 0
    held: int = 0
    sites: Mapping[str, int] = field(default_factory=dict)
    unreachable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A lost member. ``since``: Unix seconds."""

    id: str
    overlay: str
    since: float
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held(Lost):
    """A lost member whose removal is held back, and why."""

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Registry entries that are not believed. ``entries``: the first of them, and why."""

    count: int = 0
    entries: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """A private address that several members of one site claim."""

    site: str
    address: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """Addresses of members that were removed: connections that they opened are not let in by being
    established. ``addresses``: the first of them."""

    count: int = 0
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """The fleet-wide settings: seconds, and removals."""

    interval: float | None = None
    maxchange: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """``repairs``: how often the kernel was repaired. ``fight``: who keeps undoing the repairs."""

    repairs: int = 0
    fight: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracking:
    """How full the connection-tracking table is."""

    tracked: int
    limit: int
    percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """``gateway``: the id of the one that this host is behind. ``entry``: the registry name of this
    host, None when it is not registered. ``more``: further addresses. ``peers``: members without
    this host. ``lost``, ``holds``: the first of them; ``members`` has the counts. ``ssh``: whether
    SSH is kept out of connection tracking. ``applies``: transactions with the kernel so far.
    ``containers``: interfaces that are taken for this host's own containers', so that what comes
    from them is let in. ``lacks``: what this kernel cannot do (model.capabilities).
    ``records``: whether hosts' records are read ("report"), decide ("strict"), or neither ("off").
    ``encryption``: None where no pair of this host's site encrypts.
    ``member_ports``: what is in force of those of neti.yml ("none": it has none). ``openings``:
    what is open for a time."""

    format: int = FORMAT
    version: str
    id: str
    site: str
    private: str
    public: str | None = None
    gateway: str | None = None
    more: tuple[str, ...] = ()
    overlay: str | None = None
    entry: str | None = None
    registered: bool = False
    down: bool = False
    stage: str = "shadow"
    wished: Wish = field(default_factory=Wish)
    trial: Running | Expired | None = None
    evidence: tuple[Finding, ...] = ()
    registry: Registry
    members: Members = field(default_factory=Members)
    peers: int = 0
    lost: tuple[Lost, ...] = ()
    holds: tuple[Held, ...] = ()
    skipped: Skipped = field(default_factory=Skipped)
    records: str = "off"
    encryption: Encryption | None = None
    member_ports: PortsState = "none"
    openings: tuple[Opened, ...] = ()
    shared_private: tuple[Shared, ...] = ()
    removed: Removed = field(default_factory=Removed)
    containers: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    settings: Live = field(default_factory=Live)
    drift: Drift = field(default_factory=Drift)
    conntrack: Tracking | None = None
    ssh: str = "untracked"
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    applies: int = 0

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {**plain(self), "problems": [one.document() for one in self.problems]}


def status_of(document: Any) -> Status:
    """From what ``Status.document`` wrote. ``null`` is a missing key; a problem that this version
    does not know is a warning (``problems_in``). Raises NetiError if it is not understood."""
    if isinstance(document, Mapping):
        said = {key: value for key, value in document.items() if value is not None}
        document = {**said, "problems": [one.document() for one in problems_in(document)]}
    try:
        return read(Status, document)
    except DocumentError as error:
        raise NetiError(
            f"the agent's status cannot be read ({error}): the agent is of another version than "
            "this command\n→ systemctl restart neti"
        ) from error
