"""Hosts of the site that talk to its tiers directly all the time, by the addresses they were given.

They ask for no more than a sign of life: the way there is what they are about. Must never retry.
"""

import asyncio
import itertools
from typing import Final

from neti_lab.shop import lines
from neti_lab.shop.configuration import ClientsConfiguration, Endpoint
from neti_lab.shop.program import write_document
from neti_lab.shop.tally import Tally, Visited
from neti_lab.shop.visits import Goodbye, Visits

_LONG_RATE: Final = 2.0


class Clients:
    def __init__(self, configuration: ClientsConfiguration) -> None:
        self._configuration = configuration
        self._rate = configuration.rate
        self._tally = Tally(configuration.trace)
        self._visits = Visits(self._visit, self._tally, long_rate=_LONG_RATE)
        self._tiers: dict[Endpoint, str] = {}  # also of those that are not visited any more
        self._targets: tuple[Endpoint, ...] = ()
        self._turns = itertools.count()

    async def start(self) -> None:
        self.take(self._configuration)
        self._visits.start(lambda: self._rate, self._next_target)

    def take(self, configuration: ClientsConfiguration) -> None:
        self._rate = configuration.rate
        tiers = {
            endpoint: tier
            for tier, endpoints in configuration.targets.items()
            for endpoint in endpoints
        }
        self._tiers |= tiers
        self._targets = tuple(tiers)
        self._visits.keep_connected(self._targets)

    def report(self) -> None:
        self._tally.flush()
        if self._configuration.stats is not None:
            write_document(self._configuration.stats, self._tally.document())

    async def stop(self) -> None:
        await self._visits.stop()

    def _next_target(self) -> Endpoint | None:
        if not self._targets:
            return None
        return self._targets[next(self._turns) % len(self._targets)]

    async def _visit(
        self, target: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Visited:
        writer.write(lines.encode({"op": "health"}))
        answer = await lines.read(reader)
        if answer is None:
            raise ConnectionResetError("hung up without an answer")
        if "goodbye" in answer:
            raise Goodbye("said goodbye instead of an answer")
        if not answer.get("ok"):
            raise ValueError(str(answer.get("error")))
        one = {"host": answer["host"], "seen_from": answer["seen_from"]}
        return Visited({self._tiers[target]: one})
