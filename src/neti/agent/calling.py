"""Who calls this host: when a member last began a connection, and which are open now. Only reads.

Must never do: take Neti's own connections for a caller's.
"""

from collections import Counter
from typing import Final

from neti.agent.core import Core
from neti.control.server import Request
from neti.errors import DataplaneError
from neti.model.document import plain
from neti.monitoring.arrivals import Calls
from neti.monitoring.called import Called, Caller
from neti.registry.detail import CallsSeen
from neti.ruleset.reach import admitted_addresses
from neti.stage.in_the_clear import Tracked

_MOST: Final = 200  # rows for a command
_NAMES: Final = {6: "tcp", 17: "udp", 132: "sctp", 33: "dccp"}


class Calling:
    """Not thread-safe: the loop's thread owns it. ``calls``: what the kernel's counter says."""

    def __init__(self, core: Core, calls: Calls) -> None:
        self._core = core
        self._calls = calls

    def told(self) -> CallsSeen | None:
        """For the document; None: it is not watched."""
        core, calls = self._core, self._calls
        since, at, last = map(core.shown, (calls.since, calls.at, calls.last))
        if since is None or at is None:
            return None
        try:
            opened = len(self._open(self._whose()))
        except DataplaneError:
            opened = None
        last = None if last is None else int(last)
        return CallsSeen(since=int(since), at=int(at), last=last, open=opened)

    def answer(self, request: Request) -> None:
        """The control command."""
        core, fault = self._core, ""
        rows = Counter[tuple[tuple[str, ...], str, int]]()
        try:
            whose = self._whose()
            for one in self._open(whose):
                rows[whose[one.source.packed], _NAMES[one.protocol], one.port] += 1
        except DataplaneError as error:
            fault = str(error)
        now = core.shown(core.since())
        assert now is not None
        called = Called(
            now=now,
            since=core.shown(self._calls.since),
            at=core.shown(self._calls.at),
            last=core.shown(self._calls.last),
            callers=tuple(
                Caller(ids=ids, protocol=protocol, port=port, connections=number)
                for (ids, protocol, port), number in rows.most_common(_MOST)
            ),
            fault=fault,
        )
        request.succeed(plain(called))

    def _whose(self) -> dict[bytes, tuple[str, ...]]:
        """Addresses from which members come, packed: behind one NAT several have the same."""
        core, found = self._core, dict[bytes, list[str]]()
        for member in core.members.fleet.members.values():
            if member.id == core.host.id:
                continue
            every = admitted_addresses(member, host=core.host, sites=core.settings.sites)
            for address in {*every, member.overlay}:
                found.setdefault(address.packed, []).append(member.id)
        return {address: tuple(ids) for address, ids in found.items()}

    def _open(self, whose: dict[bytes, tuple[str, ...]]) -> list[Tracked]:
        """Raises DataplaneError."""
        verify_port = self._core.settings.verify_port
        found = self._core.out.connections.opened_by(whose)
        return [one for one in found if one.port != verify_port]
