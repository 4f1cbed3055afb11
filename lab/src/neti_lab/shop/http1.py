"""As much of HTTP/1.1 as the shop needs: JSON bodies with a length, connections that stay open.

Must never guess: what is not plainly a message of that kind is a ValueError.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Final

from neti_lab.shop.configuration import Document

_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    502: "Bad Gateway",
    504: "Gateway Timeout",
}
_LONGEST_BODY: Final = 2**16


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer."""

    first: tuple[str, str, str]  # method, path, version; or version, status, reason
    body: bytes
    stays: bool  # whether the connection stays open after it

    @property
    def status(self) -> int:
        return int(self.first[1])

    def document(self) -> Document:
        document = json.loads(self.body)
        if not isinstance(document, dict):
            raise ValueError("a JSON object is wanted")
        return document


async def read(reader: asyncio.StreamReader) -> Message | None:
    """The next message; None when the connection ends before one."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    line, *lines = head.decode("latin-1").rstrip().split("\r\n")
    first = (*line.split(" ", 2), "", "")[:3]
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (header.partition(":") for header in lines)
    }
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= _LONGEST_BODY or "transfer-encoding" in headers:
        raise ValueError("a body with a sensible length is wanted")
    body = await reader.readexactly(length)
    stays = headers.get("connection", "keep-alive").lower() != "close" and "HTTP/1.1" in first
    return Message((first[0], first[1], first[2]), body, stays)


def request(method: str, path: str, body: Document | None, *, stays: bool) -> bytes:
    return _message(f"{method} {path} HTTP/1.1\r\nHost: shop", body, stays=stays)


def answer(status: int, body: Document, *, stays: bool) -> bytes:
    return _message(f"HTTP/1.1 {status} {_REASONS[status]}", body, stays=stays)


def _message(start: str, body: Document | None, *, stays: bool) -> bytes:
    data = b"" if body is None else json.dumps(body).encode() + b"\n"
    head = (
        f"{start}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        f"Connection: {'keep-alive' if stays else 'close'}\r\n\r\n"
    )
    return head.encode() + data
