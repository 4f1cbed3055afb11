"""The shop's database: which side it is on, what clients are answered, what operators may do.

A copy that is not the primary answers nobody's order, neither a new one nor a question: what it
holds may be old. Must never be the primary because of its configuration once its own file says
that it has handed over.
"""

import asyncio
import time
from typing import Final

from neti import log
from neti_lab import LabError
from neti_lab.shop import control, lines
from neti_lab.shop.configuration import DatabaseConfiguration, Document, Endpoint
from neti_lab.shop.ledger import HANDED_OVER, PRIMARY, STANDBY, Ledger
from neti_lab.shop.primary import Primary
from neti_lab.shop.program import write_document
from neti_lab.shop.serving import Connection, Service
from neti_lab.shop.standby import Standby

# What a driver is told by each role that serves no orders; it then looks at its address again.
_ELSEWHERE: Final = {STANDBY: "read_only", HANDED_OVER: "handed_over"}


class Database:
    """One copy of the orders, and its side of the replication."""

    def __init__(self, configuration: DatabaseConfiguration) -> None:
        self._configuration = configuration
        self._service = Service(self._talk, goodbye=lines.GOODBYE)
        self._ledger = Ledger(configuration.file)
        self._side: Primary | Standby
        self._control: asyncio.Server | None = None

    @property
    def role(self) -> str:
        return self._side.role if isinstance(self._side, Primary) else STANDBY

    async def start(self) -> None:
        marked, primary = self._ledger.marked, self._configuration.standby_of
        if primary is not None and marked != PRIMARY:
            self._follow(primary)
        else:
            self._side = Primary(self._ledger, HANDED_OVER if marked == HANDED_OVER else PRIMARY)
        if primary is not None and marked == PRIMARY:
            log.warning("shop-standby-of-ignored", reason="this copy has become the primary")
        await self._service.start(self._configuration.port)
        self._control = await control.serve(self._configuration.control, self._obey)
        log.info("shop-database", role=self.role, sequence=self._ledger.sequence)

    def take(self, configuration: DatabaseConfiguration) -> None:
        """A standby follows another primary; one that handed over may become a standby."""
        primary = configuration.standby_of
        if primary is None:
            return
        if isinstance(self._side, Standby):
            self._side.point_to(primary)
        elif self.role == HANDED_OVER:
            self._side.stop()
            self._follow(primary)

    def report(self) -> None:
        if self._configuration.stats is not None:
            document = {"at": time.monotonic(), **self._status()}
            write_document(self._configuration.stats, document)

    async def stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._configuration.control.unlink(missing_ok=True)
        await self._service.stop()
        self._side.stop()

    async def _talk(self, connection: Connection) -> None:
        first = await lines.read(connection.reader)
        if first is None:
            return
        if first.get("op") != "replicate":
            host = self._configuration.host
            await lines.converse(connection, self._answer, host=host, first=first)
        elif isinstance(self._side, Primary):
            self._service.release(connection)
            await self._side.feed(connection, first)
        else:
            connection.send(lines.encode({"error": "this database is a standby itself"}))

    async def _answer(self, request: Document) -> Document:
        operation = request["op"]
        if operation == "health":
            return {"ok": True, "role": self.role, "sequence": self._ledger.sequence}
        if operation not in ("order", "find"):
            raise ValueError(operation)
        name = str(request["id"])
        ordering = operation == "order"
        sequence = None
        try:
            if isinstance(self._side, Primary):
                sequence = await self._side.order(name) if ordering else self._side.find(name)
        except LabError as error:
            return {"ok": False, "error": str(error)}
        # Only now: while the request waited, this may have become another copy's affair.
        if self.role != PRIMARY:
            return {"ok": False, "error": _ELSEWHERE.get(self.role, self.role)}
        if sequence is None:
            # An order that found no primary is never "not found", whatever this is by now.
            return {"ok": False, "error": "handed_over" if ordering else "not_found"}
        return {"ok": True, "sequence": sequence}

    async def _obey(self, command: str) -> Document:
        side = self._side
        if command == "hand-over":
            if isinstance(side, Standby):
                raise LabError("this is a standby: the primary hands over")
            try:
                await side.hand_over()
            finally:
                if side.role == HANDED_OVER:
                    self._service.dismiss()
        elif command == "promote":
            if isinstance(side, Primary):
                raise LabError(f"this is no standby but {side.role}")
            if side.attached:
                raise LabError("the primary is alive and attached: hand over there")
            self._become_primary()
            side.stop()
        elif command != "status":
            raise LabError(f"no such command: {command!r} ({', '.join(control.COMMANDS)})")
        return self._status()

    def _follow(self, primary: Endpoint) -> None:
        host = self._configuration.host
        self._side = Standby(self._ledger, primary, host=host, promoted=self._become_primary)

    def _become_primary(self) -> None:
        self._ledger.mark(PRIMARY)
        self._side = Primary(self._ledger)
        log.info("shop-promoted", sequence=self._ledger.sequence)

    def _status(self) -> Document:
        return {
            "host": self._configuration.host,
            "role": self.role,
            "sequence": self._ledger.sequence,
            "clients": dict(self._service.peers()),
            **self._side.status(),
        }
