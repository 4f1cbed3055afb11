"""The world outside: users who order and look their orders up, all the time.

They find the shop by a list of web servers that may change, as by DNS or a load balancer. Every
order that was acknowledged must be found again, with its number. Must never retry.
"""

import asyncio
import random
import uuid
from typing import Final

from neti_lab.shop import http1
from neti_lab.shop.configuration import Document, Endpoint, UsersConfiguration
from neti_lab.shop.program import write_document
from neti_lab.shop.tally import Tally, Visited
from neti_lab.shop.visits import Visits, Wrong

_LONG_RATE: Final = 5.0


class Users:
    def __init__(self, configuration: UsersConfiguration) -> None:
        self._configuration = configuration
        self._webs = configuration.webs
        self._rate = configuration.rate
        self._tally = Tally(configuration.trace)
        self._visits = Visits(self._visit, self._tally, long_rate=_LONG_RATE)
        self._turn = 0
        self._orders: dict[str, int] = {}  # acknowledged
        self._names: list[str] = []  # the same, to choose from
        self._ids: dict[int, str] = {}  # the other way round

    async def start(self) -> None:
        self._visits.keep_connected(self._webs)
        self._visits.start(lambda: self._rate, self._next_web)

    def take(self, configuration: UsersConfiguration) -> None:
        self._webs = configuration.webs
        self._rate = configuration.rate
        self._visits.keep_connected(self._webs)

    def report(self) -> None:
        self._tally.flush()
        if self._configuration.stats is not None:
            document = {**self._tally.document(), "acknowledged": len(self._orders)}
            write_document(self._configuration.stats, document)

    async def stop(self) -> None:
        await self._visits.stop()
        if self._configuration.orders is not None:
            write_document(self._configuration.orders, {"orders": self._orders})

    def _next_web(self) -> Endpoint | None:
        if not self._webs:
            return None
        self._turn += 1
        return self._webs[self._turn % len(self._webs)]

    async def _visit(
        self, web: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Visited:
        name = str(uuid.uuid4())
        # By lot: in turn, two apps taken in turn would get all orders and all questions.
        if random.random() < 0.5 or not self._orders:
            writer.write(http1.request("POST", "/order", {"id": name}, stays=True))
            answer = await _answer(reader)
            self._acknowledged(name, _sequence(answer))
        else:
            name = random.choice(self._names)
            writer.write(http1.request("GET", f"/order/{name}", None, stays=True))
            answer = await _answer(reader)
            self._compare(name, answer)
        document = answer.document()
        return Visited(document["served_by"], document["retries"], stays=answer.stays)

    def _acknowledged(self, name: str, sequence: int) -> None:
        other = self._ids.setdefault(sequence, name)
        if other != name:
            raise Wrong(f"order {name} got number {sequence}, which is {other}'s")
        self._orders[name] = sequence
        self._names.append(name)

    def _compare(self, name: str, answer: http1.Message) -> None:
        if answer.status == 404:
            raise Wrong(f"order {name} was acknowledged and is not found")
        sequence = _sequence(answer)
        if sequence != self._orders[name]:
            raise Wrong(f"order {name} had number {self._orders[name]}, now {sequence}")


async def _answer(reader: asyncio.StreamReader) -> http1.Message:
    answer = await http1.read(reader)
    if answer is None:
        raise ConnectionResetError("hung up without an answer")
    return answer


def _sequence(answer: http1.Message) -> int:
    document: Document = answer.document()
    if answer.status != 200:
        raise ValueError(f"{answer.status}: {document.get('error')}")
    return int(document["sequence"])
