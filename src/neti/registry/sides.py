"""What an agent, and an operator's command, may ask of a registry: see ``neti.registry``."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from neti.registry.events import Detail, HostRead, Question, SettingEdit, SettingName, Sink
from neti.registry.leases import DamagedLease
from neti.registry.revoked import RevokedKey


class AgentRegistry(Protocol):
    """What an agent does with its session: follow the fleet, and register itself. See
    ``Registry``."""

    def watch(self, sink: Sink, *, hosts: bool = False) -> None:
        """Connect, and reconnect until closed; report everything to ``sink``, HostChanged only with
        ``hosts``.

        Returns at once. ``sink`` is called from the registry's own thread, must not block and
        must not call back into the registry other than ``ask`` and ``relist``. First comes a
        Snapshot and a SettingRead for each setting, then Fresh.
        """

    def ask(self, questions: Iterable[Question]) -> None:
        """Request a LeaseRead, DataRead or HostRead for each. What is asked in one call is read
        together, as far as it fits, without waiting. Answers that are lost with the connection are
        not repeated: ask again after the next Fresh."""

    def relist(self) -> None:
        """Report everything again, because events may have been lost here: a Snapshot, a
        SettingRead for each setting, then Fresh. Returns at once. Stale may come first, and in a
        large fleet the list may take a while, so that not all agents read it at the same time."""

    def acquire(
        self, host_id: str, subnet: IPv4Network, *, prefer: IPv4Address | None = None
    ) -> IPv4Address:
        """This id's lease, taken now if it has none: an id keeps its address for good. ``prefer``
        is taken if it is free: the address that the host remembers when the registry has forgotten
        it. Raises OverlayExhausted when the subnet is full and LeaseConflict when the lease lies
        outside ``subnet`` or its two halves disagree."""

    def register(
        self,
        *,
        host_id: str,
        name: str,
        data: bytes,
        detail: bytes,
        report: bytes = b"",
        replaces: str | None = None,
        overlay: IPv4Address | None = None,
        machine: str = "",
        key: str = "",
    ) -> bool:
        """Write the host's record, create ``name`` and delete ``replaces`` (this session's own
        earlier name), in one step. Repeating a registration that this session already holds changes
        nothing but ``detail`` and ``report``. ``detail``: what every member may read; ``report``:
        all that the host says, for operators where there are rights (empty: nothing). Where the
        tree has no place for reports, because an earlier version laid it out, it stands in the
        detail's. ``machine``: hexadecimal, of this machine and boot; a live
        registration of the same one is taken over. ``key``: the host's public key (see
        ``record.PUBLIC_KEY``), held for its id from now on. Where the tree has no place for keys,
        because an earlier version laid it out, the record says none.

        Returns whether what the host says stands there now: where a member may delete nothing, what
        it said in an earlier session stands in its place until that ends. Then ``describe`` again.

        Raises IdentityHeld when another machine or certificate has this id, NameTaken when ``name``
        exists and belongs to another session or is not what the record names, KeyTaken when the key
        is held for another id, NotAdmitted when only operators may begin a host.

        Where a member may delete nothing (ZooKeeper with ACLs), ``replaces`` stays until its
        session ends; the record no longer names it."""

    def describe(self, host_id: str, detail: bytes, report: bytes = b"") -> bool:
        """Replace this session's detail document, and its report, in one step (RegistryError when
        it is not registered). Returns the same as ``register``."""

    def leave(self, *, host_id: str, name: str, departure: str) -> None:
        """Leave on purpose: the host's record names ``departure``, watchers see it appear, then see
        ``name`` vanish, in one step (in several where a member may delete nothing)."""

    def detach(self) -> None:
        """Drop the connection and leave the session alive for its time-out: a restart."""

    def close(self) -> None:
        """End the session: everything it registered vanishes."""


class OperatorRegistry(Protocol):
    """What commands do: reads, and rare writes. See ``Registry``."""

    def close(self) -> None: ...

    def names(self) -> frozenset[str]: ...

    def data(self, names: Iterable[str]) -> dict[str, bytes]:
        """The data of those ``names`` that exist."""

    def details(self, host_ids: Iterable[str] | None = None) -> list[Detail]:
        """Of those of these hosts that are registered, sorted by id; None: of all hosts. It takes
        longer the more is asked for, and gives up only after ``timeout`` seconds without an
        answer."""

    def reports(self, host_ids: Iterable[str]) -> list[Detail] | None:
        """As ``details``, of those of these hosts that have one; None where only operators may read
        them, and this client is none."""

    def leases(self) -> Mapping[IPv4Address, str]:
        """All leases, the oldest first; one that was moved, or written again, counts from then.
        Like ``details``, it gives up only after ``timeout`` seconds without an answer."""

    def lease_of(self, host_id: str) -> IPv4Address | None: ...

    def records(self, host_ids: Iterable[str] | None = None) -> Mapping[str, HostRead]:
        """The records of these hosts, or of all, by id, as far as they exist. Like ``details``."""

    def owners(self) -> Mapping[str, str]:
        """By id the subject of the certificate whose record it is, and nobody else's, of ids that
        hold a lease. Empty where records belong to nobody. What an operator did not admit says so
        of itself: who makes a record chooses its rights. It reads each one's rights, and like
        ``details`` gives up only after ``timeout`` seconds without an answer."""

    def made(self, names: Iterable[str]) -> Mapping[str, int]:
        """The number of the step that made each of those ``names`` that exist."""

    def sessions(self, names: Iterable[str]) -> Mapping[str, int]:
        """The session with which each of those ``names`` that exist goes; 0: none."""

    def unreadable(self) -> frozenset[str]:
        """Nodes that the reads so far had to leave out, because their makers let nobody read
        them. A read goes on without them."""

    def release(self, host_id: str) -> IPv4Address | DamagedLease | None:
        """Delete both halves of the id's lease in one step. Returns the address that is free now,
        or None if there was no lease. Of a damaged lease the id's half is deleted, which frees no
        address. The host's record is deleted; where members may not begin a host, it is emptied.
        The names that operators gave the lease go with it.

        Watchers see ``entry.encode_moved`` of it appear and vanish, as with ``move``, so that they
        look up who holds it now. Raises IdentityHeld while the host is registered."""

    def move(
        self, old: str, new: str, *, force: bool = False
    ) -> tuple[IPv4Address, IPv4Address | None]:
        """Give the lease of ``old`` to ``new``, and free what ``new`` held before, in one step. The
        record of ``old``, if it has one, is emptied; that of ``new`` stays as it is. The names that
        operators gave the lease go over to ``new``.

        Returns the address that moved and the one that is free now (None: there was none).
        Watchers see ``entry.encode_moved`` appear and vanish. Raises RegistryError when ``old``
        holds no lease, and IdentityHeld while it is registered, unless ``force``."""

    def revoke_key(self, host_id: str, key: str | None = None) -> RevokedKey | None:
        """In one step: nobody can register with the key that the host's record says (or this one)
        any more, nor the host itself, every agent is told so by the setting ``revoked``, and the
        host's entry is taken away if its record says the key, so that it registers anew, with
        another key. None if the record says none, or if it was revoked before. Raises RegistryError
        when it is another host's, whose record says it."""

    def fleet(self) -> str:
        """As ``Origin.fleet``."""

    def setting(self, setting: SettingName) -> bytes | None:
        """A live setting; None if it is not set."""

    def change_setting(self, setting: SettingName, value: bytes | None) -> None:
        """Write a live setting for the whole fleet; None deletes it."""

    def edit_setting(self, setting: SettingName, edit: SettingEdit) -> None:
        """As ``change_setting``, with what ``edit`` makes of the value that it replaces. It may be
        called again, where another operator was faster, and must not call the registry. What it
        raises changes nothing."""


class Registry(AgentRegistry, OperatorRegistry, Protocol):
    """One session with a registry, both sides of it. Callers take the side that they need.

    Every method but ``watch``, ``relist`` and those that ask blocks, for at most the constructor's
    ``timeout`` in seconds, and raises RegistryUnavailable when the registry does not answer in that
    time. Each is all or nothing. Thread-safe. Host ids match ``entry.HOST_ID``.
    """
