"""The kernel as everybody else sees it: read what it holds, apply a transaction. Nothing else.

``nftables.NftablesDataplane`` is the real one, ``memory.MemoryDataplane`` the one for tests of the
code above; both pass the same contract tests. See docs/design/dataplane.md.

Must never do: touch any table but ``inet neti``, or half of a transaction.
"""

from typing import Protocol

from neti.ruleset.objects import KernelState, Structure, Transaction
from neti.ruleset.set_names import SetName
from neti.stage.leftovers import Call
from neti.stage.shadow import Sighting


class Dataplane(Protocol):
    """Not thread-safe: one thread decides and applies. Raises DataplaneError."""

    def read(self) -> KernelState:
        """The table as the kernel holds it now (NO_TABLE when it is not there)."""

    def structure(self) -> str | None:
        """``KernelState.structure`` alone, without elements: a cheap way to look for drift."""

    def definitions(self, structure: Structure) -> frozenset[str]:
        """What ``KernelState.definitions`` would be if the kernel held this structure."""

    def enforce(self) -> dict[str, int | None]:
        """What map ``enforce`` holds, see KernelState; empty without a table."""

    def require(self) -> dict[str, int | None]:
        """What set ``require`` holds; empty without one."""

    def narrowed(self) -> dict[str, int | None]:
        """What map ``narrowed`` holds; empty without one."""

    def timed(self, where: SetName) -> dict[str, int]:
        """Elements of a set in which they end by the kernel's clock, with the seconds left."""

    def counters(self) -> dict[str, int]:
        """Packets by named counter, since the table was made; empty without a table."""

    def counted_bytes(self) -> dict[str, int]:
        """Likewise their bytes."""

    def sightings(self) -> list[Sighting]:
        """What reached the verdict, of both families: each source, protocol and port once. Empty
        without a table."""

    def unasked(self) -> list[Sighting]:
        """The same of what came from members, and ``member_ports`` of the file do not admit."""

    def leftovers(self) -> list[Call]:
        """Who on this host called members by their real addresses, each once. Empty without a
        table."""

    def disarm(self) -> bool:
        """Empty map ``enforce``, except for the mark (``KernelState.relaxed_by_hand``), set
        ``require`` and map ``narrowed``, whatever else of the table is not as it should be.
        Returns whether there was the first."""

    def mark_down(self) -> None:
        """Leave an empty table that judges nothing, because ``neti down`` could not be noted on
        disk."""

    def marked_down(self) -> bool: ...

    def remove(self) -> bool:
        """Take the table out, whatever it holds. Returns whether it was there."""

    def apply(self, transaction: Transaction) -> None:
        """All of it or nothing. An empty transaction does not reach the kernel. Raises KernelMoved
        if what should be deleted is not there, or what should be added is."""
