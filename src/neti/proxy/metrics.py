"""The proxy's counters as text, for Prometheus or curl, on its own small listener."""

import asyncio
import contextlib
from collections.abc import Iterator

from neti.proxy.relay import Relay
from neti.proxy.servers import Servers
from neti.proxy.settings import Endpoint

_SECONDS = 5.0
_MOST = 4096
_AT_ONCE = 16  # more of them must not take the relay's descriptors


def text(relay: Relay, servers: Servers) -> str:
    return "\n".join(_lines(relay, servers)) + "\n"


def _lines(relay: Relay, servers: Servers) -> Iterator[str]:
    counts = relay.counts
    yield from _metric("connections", "gauge", "Open connections.", {"": relay.connections})
    yield from _metric("accepted_total", "counter", "Accepted.", {"": counts.accepted})
    for name, what, by_reason in (
        ("refused_total", "Refused connections, by reason.", counts.refused),
        ("ended_total", "Ended connections, by reason.", counts.ended),
    ):
        labelled = {f'{{reason="{r.replace(" ", "_")}"}}': n for r, n in by_reason.items()}
        yield from _metric(name, "counter", what, labelled)
    passed = {
        '{direction="to_servers"}': counts.to_servers,
        '{direction="to_clients"}': counts.to_clients,
    }
    yield from _metric("bytes_total", "counter", "Bytes relayed.", passed)
    for name, kind, what, field in (
        ("server_up", "gauge", "1 if the server answers.", "up"),
        ("server_connections", "gauge", "Open connections to the server.", "connections"),
        ("server_connected_total", "counter", "Connections made to the server.", "connected_total"),
        (
            "server_failed_total",
            "counter",
            "Connections that the server did not accept.",
            "failed_total",
        ),
        ("server_downs_total", "counter", "How often the server went down.", "downs_total"),
    ):
        values = {f'{{server="{s.place}"}}': int(getattr(s, field)) for s in servers.all}
        yield from _metric(name, kind, what, values)


def _metric(name: str, kind: str, what: str, values: dict[str, int]) -> Iterator[str]:
    full = f"neti_zk_proxy_{name}"
    yield f"# HELP {full} {what}"
    yield f"# TYPE {full} {kind}"
    for labels, value in values.items():
        yield f"{full}{labels} {value}"


async def serve(place: Endpoint, relay: Relay, servers: Servers) -> asyncio.Server:
    """Every request gets all metrics. Raises OSError when it cannot listen on the address."""

    open_now = 0

    async def one_of_few(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        if open_now >= _AT_ONCE:
            writer.transport.abort()
            return
        open_now += 1
        try:
            await answer(reader, writer)
        finally:
            open_now -= 1

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_SECONDS):
                await reader.readuntil(b"\r\n\r\n")
                body = text(relay, servers).encode()
                head = (
                    "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n"
                )
                writer.write(head.encode() + body)
                await writer.drain()
                writer.write_eof()
                await reader.read(_MOST)
        writer.transport.abort()

    return await asyncio.start_server(one_of_few, place.host, place.port, limit=_MOST)
