"""What a registry tells: its events, in the order in which it saw them, and answers. Values only.

Texts in them are untrusted: ``neti.fleet`` judges them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final, Literal, get_args

from neti.registry.record import HostId, HostRecord, KeyName

# ``release``: hosts that are gone for good, see ``neti.registry.release``; ``strict``: whether only
# entries that their hosts' records name are believed; ``revoked``, ``drained``, ``groups``,
# ``names``, ``retired``: see the modules of these names.
SettingName = Literal[
    "interval",
    "maxchange",
    "release",
    "strict",
    "revoked",
    "drained",
    "groups",
    "names",
    "asked",
    "retired",
]
SettingEdit = Callable[[bytes | None], bytes | None]
SETTING_NAMES: Final[tuple[SettingName, ...]] = get_args(SettingName)


@dataclass(frozen=True, slots=True)
class Session:
    """What a restarted agent needs to take up its registration again. Secret: mode 0600 on disk."""

    id: int
    password: bytes


# --- Events. Each reaches the sink in exactly the order in which the registry saw it. ---


@dataclass(frozen=True, slots=True)
class Origin:
    """Which registry a list comes from, and how far along it was.

    ``fleet`` is drawn at random when the tree is made, so a registry that was wiped has another
    (empty: it has none). ``version`` grows with every name that appears or vanishes, modulo 2**32:
    if it is lower than before, this is an older copy.
    """

    fleet: str
    version: int

    def doubt(self, before: "Origin") -> str | None:
        """Why this may not be the registry that ``before`` was from, in words; None if it may."""
        if self.fleet != before.fleet:
            return (
                f"the registry is another one than before (fleet {self.fleet or 'unnamed'}, "
                f"before {before.fleet or 'unnamed'}): was it wiped?"
            )
        if (self.version - before.version) % VERSIONS >= VERSIONS // 2:
            return (
                f"the registry went back (version {self.version}, before {before.version}): "
                "was it restored from an older copy?"
            )
        return None


VERSIONS: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All names at one moment. Follows the first connection, and any gap in what was seen.

    Later changes are relative to it: nothing is missed and nothing comes twice.
    """

    names: frozenset[str]
    origin: Origin = field(default=Origin("", 0), compare=False)


@dataclass(frozen=True, slots=True)
class Appeared:
    name: str


@dataclass(frozen=True, slots=True)
class Vanished:
    name: str


@dataclass(frozen=True, slots=True)
class Fresh:
    """Connected and complete: the events so far add up to what the registry holds.

    ``unanswered``: some questions from before will not be answered, because a connection was lost.
    """

    session: Session
    unanswered: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class Stale:
    """Not connected, or not sure: keep the last picture. That nothing is heard proves nothing."""

    reason: str


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """This session expired: what it had registered is gone and must be registered again."""


@dataclass(frozen=True, slots=True)
class SessionTaken:
    """Another process has taken up this session, as a clone of this host with its state does. A new
    session was begun; what the former one had registered now belongs to the other process."""


@dataclass(frozen=True, slots=True)
class LeaseRead:
    """Answer about a lease: who holds the overlay address now (None: nobody)."""

    overlay: IPv4Address
    host_id: str | None


@dataclass(frozen=True, slots=True)
class DataRead:
    """Answer about an entry: its data (None: the entry is gone), and the number of the step that
    made it."""

    name: str
    data: bytes | None
    made: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class HostChanged:
    """This host's record was written or deleted. If the host registered in the same step, the next
    event is its entry's ``Appeared``. The id is untrusted text."""

    host_id: str


@dataclass(frozen=True, slots=True)
class HostRead:
    """Answer about a host: its record (None: there is none, or it cannot be read), and the number
    of the step that wrote it last. An entry made in the same step is the host's own."""

    host_id: str
    record: HostRecord | None
    written: int = 0


@dataclass(frozen=True, slots=True)
class KeyRead:
    """Answer to a KeyName: which host published this key first (None: nobody holds it)."""

    key: str
    host_id: str | None


@dataclass(frozen=True, slots=True)
class SettingRead:
    """A live setting, at the start, on each change, and after the Snapshot of another fleet: raw,
    None if it is not set."""

    setting: SettingName
    value: bytes | None


# About the lease of an overlay address, about the entry of this name, about a host's record, about
# whose a public key is.
Question = IPv4Address | str | HostId | KeyName

Event = (
    Snapshot
    | Appeared
    | Vanished
    | Fresh
    | Stale
    | SessionEnded
    | SessionTaken
    | LeaseRead
    | DataRead
    | HostChanged
    | HostRead
    | KeyRead
    | SettingRead
)
Sink = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Detail:
    """What ``details`` or ``reports`` tells of one host, as it wrote it (JSON text, untrusted).
    ``session``: the one with which it goes; 0: none."""

    host_id: str
    document: bytes
    session: int = field(default=0, compare=False)
