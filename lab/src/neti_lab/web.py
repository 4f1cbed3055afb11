"""The small web service of the lab's hosts: it says who it is and whom it saw, by TCP and UDP.

``seen_from`` is how a test proves which way a request came: by its receiver's word. The request
itself is read to its end and not looked at but for its path: ``/long`` is answered at length. All
answers bear marks, and nothing of a long one's body is without (see ``neti_lab.marks``).
"""

import asyncio
import json
import socket
from typing import Final, cast

from neti_lab.marks import TCP_ANSWERED, UDP_ANSWERED

LONG: Final = 800 * TCP_ANSWERED  # some 16 kB

_LONGEST_REQUEST: Final = 8192
_NUMBER_BYTES: Final = 8  # at a datagram's end, so that its answer is known


async def serve_web(host: str, listener: socket.socket) -> asyncio.Server:
    """Answer every request on the listening socket, and as many on one connection as come."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            short = _reply(_body(host, writer), "application/json")
            long = _reply(LONG, "text/plain")
            while request := await reader.readuntil(b"\r\n\r\n"):
                writer.write(long if request.startswith(b"GET /long ") else short)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the caller has hung up, or is no HTTP client: its own affair
        finally:
            writer.close()

    return await asyncio.start_server(answer, sock=listener, limit=_LONGEST_REQUEST)


async def serve_datagrams(host: str, listener: socket.socket) -> asyncio.BaseTransport:
    """The same by UDP, a short answer to each datagram."""
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(host), sock=listener)
    return transport


class _Datagrams(asyncio.DatagramProtocol):
    """Says back what it was told, behind its own name and its mark."""

    def __init__(self, host: str) -> None:
        self._words = host.encode() + b" " + UDP_ANSWERED + b" "

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The selector loop's is no asyncio.DatagramTransport by name.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(self._words + data[-_NUMBER_BYTES:], addr)


def _reply(body: bytes, kind: str) -> bytes:
    return b"HTTP/1.1 200 OK\r\nX-Mark: %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        TCP_ANSWERED,
        kind.encode(),
        len(body),
        body,
    )


def _body(host: str, writer: asyncio.StreamWriter) -> bytes:
    seen_from = writer.get_extra_info("peername")[0]
    reached_at = writer.get_extra_info("sockname")[0]
    document = {"host": host, "seen_from": seen_from, "reached_at": reached_at}
    return json.dumps(document).encode() + b"\n"
