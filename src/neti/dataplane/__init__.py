"""The kernel as everybody else sees it: read what it holds, apply a transaction. Nothing else.

``nftables.NftablesDataplane`` is the real one, ``memory.MemoryDataplane`` the one for tests of
what stands above; both pass the same contract tests. See docs/design/dataplane.md.

Must never do: touch any table but ``inet neti``, or half of a transaction.
"""

from typing import Protocol

from neti.ruleset.objects import KernelState, SetName, Structure, Transaction
from neti.stage.shadow import Sighting


class Dataplane(Protocol):
    """Not thread-safe: one thread decides and applies. Raises DataplaneError."""

    def read(self) -> KernelState:
        """The table as the kernel holds it now (NO_TABLE when it is not there)."""

    def structure(self) -> str | None:
        """``KernelState.structure`` alone, without elements: cheap, for looking after drift."""

    def definitions(self, structure: Structure) -> frozenset[str]:
        """Of the named sets, maps and counters of a structure that is not in the kernel, as
        ``KernelState.definitions`` would have them."""

    def enforce(self) -> dict[str, int | None]:
        """What map ``enforce`` holds, see KernelState; empty without a table."""

    def timed(self, where: SetName) -> dict[str, int]:
        """Elements of a set that ends by the kernel's clock, with the seconds they have left."""

    def counters(self) -> dict[str, int]:
        """Packets by named counter, since the table was made; empty without a table."""

    def sightings(self) -> list[Sighting]:
        """What reached the verdict, both families: each source, protocol and port once. Nothing
        when the table is not there."""

    def disarm(self) -> bool:
        """Empty map ``enforce`` but for the mark ``KernelState.relaxed``, whatever else of the
        table is not as it should be. Whether there was such a map."""

    def mark_down(self) -> None:
        """Leave an empty table that judges nothing: no disk took the word ``neti down``."""

    def marked_down(self) -> bool: ...

    def remove(self) -> bool:
        """Take the table out, whatever it holds. Whether it was there."""

    def apply(self, transaction: Transaction) -> None:
        """All of it or nothing. An empty transaction does not reach the kernel. KernelMoved: what
        was to be deleted is not there, or what was to be added is."""
