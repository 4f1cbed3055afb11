"""A server that sends everything back, TCP and UDP, both families: ``python echo.py PORT``.

Standard library only, and a process of its own, so that nothing but the network stands between it
and whoever calls. It ends when its standard input does.
"""

import asyncio
import socket
import sys
from typing import cast


class EchoUDP(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The selector loop's is no asyncio.DatagramTransport by name.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(data, addr)


async def echo_tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while received := await reader.read(65536):
            writer.write(received)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def bound(kind: socket.SocketKind, port: int) -> socket.socket:
    """A socket for both families."""
    made = socket.socket(socket.AF_INET6, kind)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("::", port))
    return made


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    udp = bound(socket.SOCK_DGRAM, port)
    udp.setblocking(False)
    await loop.create_datagram_endpoint(EchoUDP, sock=udp)
    await asyncio.start_server(echo_tcp, sock=bound(socket.SOCK_STREAM, port), backlog=512)
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
