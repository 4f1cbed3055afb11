"""The database's standby side: follows a primary, order by order, until it is told to take over.

What it says it has is on its disk. Must never become the primary by its own decision: only the
primary, or an operator when the primary is silent, tells it to.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from neti import log
from neti_lab import LabError
from neti_lab.busy import stretched
from neti_lab.shop import lines
from neti_lab.shop.configuration import Document, Endpoint
from neti_lab.shop.ledger import Entry, Ledger
from neti_lab.shop.primary import SILENCE_SECONDS

_CONNECT_SECONDS: Final = stretched(1.0)
_PAUSE_SECONDS: Final = 0.1


class Standby:
    """Follows one primary. ``promoted`` is called once, when it is told to take over."""

    def __init__(
        self, ledger: Ledger, primary: Endpoint, *, host: str, promoted: Callable[[], None]
    ) -> None:
        self._ledger = ledger
        self._host = host
        self._promoted = promoted
        self._primary = primary
        self._primary_sequence: int | None = None
        self._heard: float | None = None
        self._following = asyncio.create_task(self._follow())
        self._problem: str | None = None

    @property
    def attached(self) -> bool:
        """Whether the primary is there and heard from."""
        return self._heard is not None and time.monotonic() - self._heard < SILENCE_SECONDS

    def status(self) -> Document:
        known = self._primary_sequence
        return {
            "standby_of": str(self._primary),
            "attached": self.attached,
            "lag": None if known is None else max(known - self._ledger.sequence, 0),
            "problem": self._problem,
        }

    def point_to(self, primary: Endpoint) -> None:
        if primary != self._primary:
            self._primary = primary
            self._following.cancel()
            self._heard = None
            self._following = asyncio.create_task(self._follow())

    def stop(self) -> None:
        self._following.cancel()

    async def _follow(self) -> None:
        while True:
            try:
                if await self._listen():
                    return
                self._complain("the connection has ended")
            except (OSError, ValueError, LabError) as error:
                self._complain(str(error) or type(error).__name__)
            self._heard = None
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _listen(self) -> bool:
        """Take what the primary sends until the connection ends; True when promoted."""
        reader, writer = await lines.connect(self._primary, seconds=_CONNECT_SECONDS)
        try:
            last = self._ledger.entry(self._ledger.sequence)
            request = {"op": "replicate", "after": self._ledger.sequence, "host": self._host}
            writer.write(lines.encode({**request, "last": last and last[1]}))
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    message = await lines.read(reader)
                if message is None:
                    return False
                if "error" in message:
                    raise LabError(f"refused by the primary: {message['error']}")
                self._heard = time.monotonic()
                self._problem = None
                writer.write(lines.encode(await self._obey(message)))
                await writer.drain()
                if "promote" in message:
                    return True
        finally:
            writer.close()

    async def _obey(self, message: Document) -> Document:
        """Do what it says; the answer to it."""
        if "entries" in message:
            entries: list[Entry] = [(int(number), str(name)) for number, name in message["entries"]]
            if entries:
                # In one go: an end between the file and the memory would make them differ.
                self._ledger.append(entries)
                self._ledger.accept(entries)
            self._primary_sequence = int(message["sequence"])
            return {"have": self._ledger.sequence}
        if "prepare" in message:
            return {"prepared": self._ledger.sequence}
        if message.get("promote") != self._ledger.sequence:
            raise LabError(f"told {message}, but has {self._ledger.sequence} orders")
        self._promoted()
        return {"promoted": self._ledger.sequence}

    def _complain(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            log.warning("shop-primary-not-followed", primary=self._primary, problem=problem)
