"""The small web service of the lab's hosts: it says who it is and whom it saw.

``seen_from`` is how a test proves which way a request came: by its receiver's word. The request
itself is read to its end and otherwise not looked at.
"""

import asyncio
import json
import socket
from typing import Final

_LONGEST_REQUEST: Final = 8192


async def serve_web(host: str, listener: socket.socket) -> asyncio.Server:
    """Answer every request on the listening socket, and as many on one connection as come."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            body = _body(host, writer)
            reply = (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(reply)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the caller has hung up, or is no HTTP client: its own affair
        finally:
            writer.close()

    return await asyncio.start_server(answer, sock=listener, limit=_LONGEST_REQUEST)


def _body(host: str, writer: asyncio.StreamWriter) -> bytes:
    seen_from = writer.get_extra_info("peername")[0]
    reached_at = writer.get_extra_info("sockname")[0]
    document = {"host": host, "seen_from": seen_from, "reached_at": reached_at}
    return json.dumps(document).encode() + b"\n"
