"""The protocol between the tiers: one JSON object a line, answers matched to requests by a tag.

Several requests may be in flight on one connection and are answered as they are done. Every answer
says who gave it (``host``) and whom that one saw (``seen_from``). A service that closes a
connection of its own accord says ``{"goodbye": true}`` first, so that a planned end is told from
a break. Nothing in here ever retries.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Final

from neti_lab.shop.configuration import Document, Endpoint
from neti_lab.shop.serving import LIMIT, Connection, Service

GOODBYE: Final = b'{"goodbye": true}\n'


class NotReached(Exception):
    """Not a byte of an answer came, so another may be asked."""


class AnswerLate(Exception):
    """It was reached, and then gave no whole answer: nobody knows what it has done."""


Answer = Callable[[Document], Awaitable[Document]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def encode(document: Document) -> bytes:
    return json.dumps(document).encode() + b"\n"


async def read(reader: asyncio.StreamReader) -> Document | None:
    """The next message; None at the end. ValueError when it is none, or only half of one."""
    line = await reader.readline()
    if not line:
        return None
    document = json.loads(line)
    if not isinstance(document, dict):
        raise ValueError("a JSON object is wanted")
    return document


async def connect(endpoint: Endpoint, *, seconds: float) -> Streams:
    """OSError when it cannot be reached within that time."""
    async with asyncio.timeout(seconds):
        return await asyncio.open_connection(str(endpoint.address), endpoint.port, limit=LIMIT)


async def ask_once(
    endpoint: Endpoint, request: Document, *, connect_seconds: float, answer_seconds: float
) -> Document:
    """The answer to one request on a connection of its own.

    NotReached when there was not a byte of an answer, AnswerLate when it did not come in time.
    """
    try:
        reader, writer = await connect(endpoint, seconds=connect_seconds)
    except OSError as error:
        raise NotReached(f"{endpoint}: {describe(error)}") from error
    try:
        writer.write(encode(request))
        async with asyncio.timeout(answer_seconds):
            answer = await read(reader)
    except TimeoutError as error:
        raise AnswerLate(f"{endpoint}: no answer within {answer_seconds:g} s") from error
    except OSError as error:
        raise NotReached(f"{endpoint}: {describe(error)}") from error
    except ValueError as error:
        raise AnswerLate(f"{endpoint}: half an answer") from error
    finally:
        writer.close()
    if answer is None or "goodbye" in answer:
        raise NotReached(f"{endpoint}: hung up without an answer")
    return answer


def describe(error: Exception) -> str:
    """For an error message: time-outs have no text of their own."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def converse(
    connection: Connection, answer: Answer, *, host: str, first: Document | None = None
) -> None:
    """Answer everything that is asked on the connection; ``first`` has been read already."""
    working: set[asyncio.Task[None]] = set()

    async def work(request: Document) -> None:
        with connection.request():
            try:
                reply = await answer(request)
            except (KeyError, TypeError, ValueError):
                reply = {"ok": False, "error": "malformed"}
            signature = {"tag": request.get("tag"), "host": host, "seen_from": connection.peer}
            connection.send(encode({**reply, **signature}))
            # A caller who has hung up meanwhile is no affair of ours.
            with contextlib.suppress(OSError):
                await connection.writer.drain()

    request = first or await read(connection.reader)
    while request is not None:
        task = asyncio.create_task(work(request))
        working.add(task)
        task.add_done_callback(working.discard)
        request = await read(connection.reader)


def service(answer: Answer, *, host: str) -> Service:
    """A service that does nothing but answer."""

    async def talk(connection: Connection) -> None:
        await converse(connection, answer, host=host)

    return Service(talk, goodbye=GOODBYE)
