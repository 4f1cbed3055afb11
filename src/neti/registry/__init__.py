"""The registry as everybody else sees it: one protocol, its events, and who implements it.

A registry holds *names* (one compact entry name per registered host, which lives as long as the
session that created it), *leases* (durable pairs overlay address <-> host id, created and deleted
both or none), a few fleet-wide *settings*, and *details* (one small document per host that only
operators read and that nobody watches). It knows nothing about what a name means: names are
untrusted text, and ``neti.fleet`` judges them; one that is longer than an entry may be comes as a
short stand-in that is no entry either, and data are cut just beyond what an entry may have.
See docs/design/registry.md.

Must never do: decide anything about membership, or call back with a lock held.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Final, Literal, Protocol, get_args

from neti.registry.leases import DamagedLease
from neti.registry.record import HostRecord

# Operators' words to all: ``release``, see ``neti.registry.release``, and ``strict``, whether only
# what a host's record names is believed.
SettingName = Literal["interval", "maxchange", "release", "strict"]
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

    ``fleet`` is made by chance with the tree, so one that was wiped has another (empty: it has
    none). ``version`` grows with every name that appears or vanishes, modulo 2**32: a lower one
    than before means an older copy.
    """

    fleet: str
    version: int

    def doubt(self, before: "Origin") -> str | None:
        """Why this may not be what ``before`` was of, in words; None when it may."""
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

    Changes that come after it are relative to it: nothing is missed and nothing comes twice.
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
    """Connected and complete: what was told so far is what the registry holds."""

    session: Session


@dataclass(frozen=True, slots=True)
class Stale:
    """Not connected, or not sure: the last picture stands; silence proves nothing."""

    reason: str


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """This session expired: what it had registered is gone and must be registered anew."""


@dataclass(frozen=True, slots=True)
class SessionTaken:
    """Another process has taken this session up, as a clone of this host with its state does. A new
    session was begun; what the former one had registered is the other's."""


@dataclass(frozen=True, slots=True)
class LeaseRead:
    """Answer to ``ask_leases``: who holds the overlay address now (None: nobody)."""

    overlay: IPv4Address
    host_id: str | None


@dataclass(frozen=True, slots=True)
class DataRead:
    """Answer to ``ask_data``: an entry's data (None: the entry is gone), and the number of the step
    that made it."""

    name: str
    data: bytes | None
    made: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class HostChanged:
    """This host's record was written, or is gone. Where the host registered with it, the next event
    is its entry's ``Appeared``. The id is untrusted text."""

    host_id: str


@dataclass(frozen=True, slots=True)
class HostRead:
    """Answer to ``ask_hosts``: a host's record (None: there is none, or none that can be read), and
    the number of the step that wrote it last: an entry that was made by the same step is the
    host's own."""

    host_id: str
    record: HostRecord | None
    written: int = 0


@dataclass(frozen=True, slots=True)
class SettingRead:
    """A live setting as it stands, on start and on each change; raw, None when not there."""

    setting: SettingName
    value: bytes | None


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
    | SettingRead
)
Sink = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Detail:
    """What ``details`` tells of one host, as it wrote it (JSON text, untrusted)."""

    host_id: str
    document: bytes


class AgentRegistry(Protocol):
    """What an agent does with its session: follow everybody, and be there itself. See
    ``Registry``."""

    def watch(self, sink: Sink, *, hosts: bool = False) -> None:
        """Connect and go on connecting until closed; report everything to ``sink``, HostChanged
        only with ``hosts``.

        Returns at once. ``sink`` is called from the registry's own thread, must not block and
        must not call back into the registry other than ``ask_leases``, ``ask_data``, ``ask_hosts``,
        ``relist``. First comes a Snapshot and a SettingRead for each setting, then Fresh.
        """

    def ask_leases(self, overlays: Iterable[IPv4Address]) -> None:
        """Request a LeaseRead for each; pipelined. Answers that are lost with the connection are
        not repeated: the asker asks again on the next Fresh."""

    def ask_data(self, names: Iterable[str]) -> None:
        """Request a DataRead for each; as ``ask_leases``."""

    def ask_hosts(self, host_ids: Iterable[str]) -> None:
        """Request a HostRead for each; as ``ask_leases``."""

    def relist(self) -> None:
        """Tell everything anew, because what was told may have been lost here: a Snapshot, a
        SettingRead for each setting, then Fresh. Returns at once. Stale may come first, and in a
        large fleet the list may take a while, so that not all agents read it at the same time."""

    def acquire(
        self, host_id: str, subnet: IPv4Network, *, prefer: IPv4Address | None = None
    ) -> IPv4Address:
        """This id's lease, taken now if it has none: the same id gets the same address for ever.

        ``prefer`` is taken if it is free: what the host remembers, in a registry that forgot it.

        Raises OverlayExhausted when the subnet is full and LeaseConflict when the lease lies
        outside ``subnet`` or its two halves disagree.
        """

    def register(
        self,
        *,
        host_id: str,
        name: str,
        data: bytes,
        detail: bytes,
        replaces: str | None = None,
        overlay: IPv4Address | None = None,
        machine: str = "",
    ) -> None:
        """Write the host's record, make ``name`` present and ``replaces`` (this session's own
        earlier name) gone, in one step. Repeating a registration that this session already holds
        changes nothing but ``detail``. ``machine``: hexadecimal, of this machine and boot; a live
        registration of the same one is taken over.

        Raises IdentityHeld when another machine or certificate has this id, NameTaken when ``name``
        is there and is another session's, or is not what the record names, NotAdmitted when only
        operators may begin a host.

        Where a member may delete nothing (ZooKeeper with ACLs), ``replaces`` stands until its
        session ends; the record does not name it any more."""

    def describe(self, host_id: str, detail: bytes) -> None:
        """Replace this session's detail document (RegistryError when it is not registered)."""

    def leave(self, *, host_id: str, name: str, departure: str) -> None:
        """Go on purpose: the host's record names ``departure``, watchers see it appear, then
        ``name`` vanish, in one step (in more where a member may delete nothing)."""

    def detach(self) -> None:
        """Drop the connection and leave the session alive for its time-out: a restart."""

    def close(self) -> None:
        """End the session: everything it registered vanishes."""


class OperatorRegistry(Protocol):
    """What commands do: reads, and rare writes. See ``Registry``."""

    def close(self) -> None: ...

    def names(self) -> frozenset[str]: ...

    def data(self, names: Iterable[str]) -> dict[str, bytes]:
        """Data of those of ``names`` that exist."""

    def details(self, host_ids: Iterable[str] | None = None) -> list[Detail]:
        """Of these hosts, where they are registered, sorted by id; None: of everybody. How long
        this takes grows with what is asked for; it ends only when there is no answer for
        ``timeout`` seconds."""

    def leases(self) -> Mapping[IPv4Address, str]:
        """All leases, the oldest first; one that was moved, or written again, counts from then.
        As ``details``, it ends only when there is no answer for ``timeout`` seconds."""

    def lease_of(self, host_id: str) -> IPv4Address | None: ...

    def records(self, host_ids: Iterable[str] | None = None) -> Mapping[str, HostRead]:
        """The records of these hosts, or of all, by id; those that there are. As ``details``."""

    def made(self, names: Iterable[str]) -> Mapping[str, int]:
        """Of those of ``names`` that exist the number of the step that made them."""

    def unreadable(self) -> frozenset[str]:
        """Nodes that the reads so far had to leave out, because their makers let nobody read
        them. One such node never ends a reading."""

    def release(self, host_id: str) -> IPv4Address | DamagedLease | None:
        """Delete both halves of the id's lease in one step; the address that is free now. None:
        there was no lease. Of a damaged one the id's half is deleted, and no address is free by it.
        The host's record is deleted; where members may not begin a host it stays, saying nothing.

        Watchers see ``entry.encode_moved`` of it appear and vanish, as with ``move``: so that they
        look whose it is now. Raises IdentityHeld while the host is registered.
        """

    def move(
        self, old: str, new: str, *, force: bool = False
    ) -> tuple[IPv4Address, IPv4Address | None]:
        """Give the lease of ``old`` to ``new``, and up what ``new`` held before, in one step. The
        record of ``old``, if it has one, says nothing any more; that of ``new`` stays as it is.

        Returns the address that moved and the one that is free now (None: there was none).
        Watchers see ``entry.encode_moved`` appear and vanish. Raises RegistryError when ``old``
        holds no lease, IdentityHeld while it is registered, unless it is to be by ``force``.
        """

    def setting(self, setting: SettingName) -> bytes | None:
        """A live setting as it stands; None when it is not there."""

    def change_setting(self, setting: SettingName, value: bytes | None) -> None:
        """Write a live setting for the whole fleet, or with None take it away."""


class Registry(AgentRegistry, OperatorRegistry, Protocol):
    """One session with a registry, both sides of it. Callers take the side that they need.

    Every method but ``watch``, ``relist`` and those that ask blocks, for ``timeout`` seconds of the
    constructor at most, and raises RegistryUnavailable when the registry cannot be asked in that
    time; each is all or nothing. Thread-safe. Host ids match ``entry.HOST_ID``.
    """
