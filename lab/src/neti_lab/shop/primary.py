"""The database's primary side: commits orders, feeds a standby, and hands over to it.

An order is acknowledged when it is on this disk and, while a standby is in step, on the standby's
too. A standby that is silent for three seconds, or gone, is no longer waited for. Must never take
up writing again once the standby may have been told to become the primary.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

from neti import log
from neti_lab import LabError
from neti_lab.busy import stretched
from neti_lab.shop import lines
from neti_lab.shop.bell import Bell
from neti_lab.shop.configuration import Document
from neti_lab.shop.ledger import HANDED_OVER, PRIMARY, Entry, Ledger
from neti_lab.shop.serving import Connection

SILENCE_SECONDS: Final = stretched(3.0)
HEARTBEAT_SECONDS: Final = 0.5
HAND_OVER_SECONDS: Final = 5.0
_ENTRIES_AT_ONCE: Final = 500


class _Standby:
    """What the primary knows of the one that follows it."""

    def __init__(self, connection: Connection, has: int) -> None:
        self.connection = connection
        self.has = has
        self.sent = has
        self.in_step = False  # only then are acknowledgements held back for it
        self.prepared: int | None = None
        self.promoted = False

    def send(self, document: Document) -> None:
        self.connection.send(lines.encode(document))


class Primary:
    """One ledger's writer. ``role`` ends as ``handed_over``."""

    def __init__(self, ledger: Ledger, role: str = PRIMARY) -> None:
        self.role = role
        self._ledger = ledger
        self._bell = Bell()
        self._begun: dict[str, asyncio.Future[int]] = {}
        self._queue: list[str] = []
        self._standby: _Standby | None = None
        self._handing_over = False
        self._committing = asyncio.create_task(self._commit_all())

    async def order(self, name: str) -> int | None:
        """The order's sequence number, the same however often it is asked; None: not here."""
        await self._bell.until(lambda: not self._handing_over)
        if self.role != PRIMARY:
            return None
        begun = self._begun.get(name)
        if begun is None:
            if name in self._ledger.orders:
                return self._ledger.orders[name]
            begun = asyncio.get_running_loop().create_future()
            self._begun[name] = begun
            self._queue.append(name)
            self._bell.ring()
        # The caller may hang up; the order has begun all the same.
        return await asyncio.shield(begun)

    def find(self, name: str) -> int | None:
        """What has been acknowledged, and nothing that may still be lost."""
        return None if name in self._begun else self._ledger.orders.get(name)

    def status(self) -> Document:
        standby = self._standby
        return {
            "standby_attached": standby is not None,
            "standby_in_step": standby is not None and standby.in_step,
            "handing_over": self._handing_over,
            "lag": None if standby is None else self._ledger.sequence - standby.has,
        }

    async def hand_over(self) -> None:
        """LabError when that was not possible, and says whether it goes on as the primary."""
        if self.role != PRIMARY or self._handing_over:
            raise LabError(f"cannot hand over: it is {self.role}, or handing over already")
        standby = self._standby
        if standby is None:
            raise LabError("no standby is attached; it goes on as the primary")
        self._handing_over = True
        try:
            await self._finish_with(standby)
            # From here on there is no way back: the standby may hear us though we do not hear it.
            self._mark_handed_over()
            standby.send({"promote": self._ledger.sequence})
            await self._wait(
                lambda: standby.promoted or self._standby is not standby, HAND_OVER_SECONDS
            )
        finally:
            self._handing_over = False
            self._bell.ring()
        if not standby.promoted:
            raise LabError(
                "handed over, but the standby has not confirmed that it is the primary now: "
                "ask it for its status, and promote it if it is not"
            )

    async def feed(self, connection: Connection, request: Document) -> None:
        """Serve a standby for as long as it is there."""
        after = int(request.get("after", 0))
        refusal = self._refusal(after, str(request.get("last")))
        if refusal is not None:
            connection.send(lines.encode({"error": refusal}))
            return
        standby = _Standby(connection, after)
        self._standby = standby
        log.info("shop-standby-attached", address=connection.peer, after=after)
        sending = asyncio.create_task(self._send(standby))
        try:
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    message = await lines.read(connection.reader)
                if message is None:
                    return
                self._hear(standby, message)
        finally:
            sending.cancel()
            self._standby = None
            self._bell.ring()
            log.info("shop-standby-detached", address=connection.peer, has=standby.has)

    def stop(self) -> None:
        self._committing.cancel()

    def _refusal(self, after: int, last: str) -> str | None:
        if self.role != PRIMARY:
            return f"this database is {self.role}"
        if self._standby is not None:
            return "another standby is attached"
        if after and self._ledger.entry(after) != (after, last):
            return f"its order {after} is not this database's"
        return None

    def _hear(self, standby: _Standby, message: Document) -> None:
        if "have" in message:
            standby.has = int(message["have"])
            standby.in_step = standby.in_step or standby.has >= self._ledger.sequence
        if "prepared" in message:
            standby.prepared = int(message["prepared"])
        if "promoted" in message:
            standby.promoted = True
        self._bell.ring()

    async def _send(self, standby: _Standby) -> None:
        """Everything after what it has, then what comes; a sign of life when nothing does."""
        while True:
            sent = standby.sent
            entries = self._ledger.entries[sent : sent + _ENTRIES_AT_ONCE]
            standby.send({"entries": entries, "sequence": self._ledger.sequence})
            standby.sent += len(entries)
            # When it has gone, the other direction says so.
            with contextlib.suppress(OSError):
                await standby.connection.writer.drain()
            await self._wait(lambda: self._ledger.sequence > standby.sent, HEARTBEAT_SECONDS)

    async def _wait(self, true: Callable[[], bool], seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._bell.until(true)

    async def _finish_with(self, standby: _Standby) -> None:
        """Everything that has begun is on the standby, and it has just said so."""

        def gone() -> bool:
            return self._standby is not standby

        began = time.monotonic()
        try:
            async with asyncio.timeout(HAND_OVER_SECONDS):
                await self._bell.until(lambda: self._is_level(standby) or gone())
                standby.send({"prepare": self._ledger.sequence})
                await self._bell.until(lambda: standby.prepared == self._ledger.sequence or gone())
        except TimeoutError as error:
            raise LabError(
                f"the standby did not have everything within {HAND_OVER_SECONDS:.0f} s; "
                "this database goes on as the primary"
            ) from error
        if gone():
            raise LabError("the standby is gone; this database goes on as the primary")
        log.info("shop-hand-over-prepared", seconds=round(time.monotonic() - began, 3))

    async def _commit_all(self) -> None:
        """One batch after the other: one fsync for all that came during the last one."""
        while True:
            await self._bell.until(lambda: bool(self._queue))
            names, self._queue = self._queue, []
            first = self._ledger.sequence + 1
            entries: list[Entry] = list(enumerate(names, start=first))
            try:
                await asyncio.to_thread(self._ledger.append, entries)
            except OSError as error:
                self._give_up(error)
                return
            self._ledger.accept(entries)
            self._bell.ring()
            await self._bell.until(lambda: self._is_safe(self._ledger.sequence))
            for sequence, name in entries:
                self._begun.pop(name).set_result(sequence)
            self._bell.ring()

    def _is_level(self, standby: _Standby) -> bool:
        return not self._begun and standby.has >= self._ledger.sequence

    def _mark_handed_over(self) -> None:
        try:
            self._ledger.mark(HANDED_OVER)
        except OSError as error:
            self._give_up(error)
            raise LabError(f"the disk failed: {error.strerror}") from error
        self.role = HANDED_OVER

    def _is_safe(self, sequence: int) -> bool:
        standby = self._standby
        return standby is None or not standby.in_step or standby.has >= sequence

    def _give_up(self, error: OSError) -> None:
        """What is half written must not be written on; the file is looked at on the next start."""
        log.error("shop-disk-failed", error=error)
        self.role = "failed"
        for begun in self._begun.values():
            begun.set_exception(LabError("the disk failed"))
        self._begun.clear()
