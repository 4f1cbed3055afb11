"""The relay of the ZooKeeper port: fail-over, limits, dead ends, back-pressure, a quiet end."""

import asyncio
import contextlib
import resource
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from neti.cli import cli
from neti.control.server import ControlServer
from neti.errors import ConfigError, NetiError
from neti.proxy import kernel, main, metrics
from neti.proxy.relay import Relay
from neti.proxy.servers import Servers
from neti.proxy.settings import (
    Endpoint,
    ProxySettings,
    checked,
    endpoint,
    raise_file_limit,
)

Scenario = Callable[[], Coroutine[Any, Any, None]]
PATIENCE = 20.0


class FakeServer:
    """Answers ``srvr``, and gives everything else back with its own name before it."""

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.answer = b"Zookeeper version: 3.8.4\nMode: follower\n"
        self.writers: set[asyncio.StreamWriter] = set()
        self.received = 0
        self.reading = asyncio.Event()
        self.reading.set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                if chunk == b"srvr":
                    writer.write(self.answer)
                    break
                self.received += len(chunk)
                await self.reading.wait()
                writer.write(self.name + b":" + chunk)
                await writer.drain()
        self.writers.discard(writer)
        writer.close()

    def stop(self) -> None:
        """As if it were killed."""
        assert self._server is not None
        self._server.close()
        for writer in tuple(self.writers):
            writer.transport.abort()


class Proxy:
    def __init__(self, relay: Relay, servers: Servers, port: int) -> None:
        self.relay, self.servers, self.port = relay, servers, port

    async def connect(
        self, source: str | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        local = (source, 0) if source else None
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=local)

    async def says(self, text: bytes = b"x") -> bytes:
        """The answer by a connection of its own; empty when it was closed."""
        reader, writer = await self.connect()
        try:
            writer.write(text)
            return await reader.read(100)
        except OSError:
            return b""
        finally:
            writer.transport.abort()


@asynccontextmanager
async def proxy(*backends: FakeServer, watch: bool = False, **options: Any) -> AsyncIterator[Proxy]:
    port = free_port()
    settings = ProxySettings(
        listen=Endpoint("127.0.0.1", port),
        servers=tuple(Endpoint("127.0.0.1", backend.port) for backend in backends),
        **{"health": 0.05, "connect": 1.0, "drain": 0.1, "max_per_source": 4000, **options},
    )
    servers = Servers(settings)
    relay = Relay(settings, servers)
    await relay.listen()
    watching = asyncio.create_task(servers.watch()) if watch else None
    try:
        yield Proxy(relay, servers, port)
    finally:
        relay.stop_listening()
        await relay.drain()
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


@asynccontextmanager
async def fakes(count: int) -> AsyncIterator[list[FakeServer]]:
    made = [FakeServer(f"s{number}") for number in range(count)]
    for one in made:
        await one.start()
    try:
        yield made
    finally:
        for one in made:
            one.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


# --- relaying ---


def test_bytes_pass_both_ways_and_are_counted() -> None:
    async def scenario() -> None:
        async with fakes(1) as servers, proxy(*servers) as one:
            reader, writer = await one.connect()
            for text in (b"hello", b"again"):
                writer.write(text)
                assert await reader.readexactly(8) == b"s0:" + text
            assert one.relay.connections == 1
            writer.close()
            await until(lambda: one.relay.connections == 0)
            counts = one.relay.counts
            assert (counts.to_servers, counts.to_clients) == (10, 16)
            assert counts.ended == {"closed": 1}

    asyncio.run(scenario())


def test_a_client_that_only_stops_sending_still_gets_its_answer() -> None:
    """As ``echo srvr | nc`` does."""

    async def scenario() -> None:
        async with fakes(1) as servers, proxy(*servers) as one:
            reader, writer = await one.connect()
            writer.write(b"question")
            writer.write_eof()
            assert await reader.read() == b"s0:question"

    asyncio.run(scenario())


def test_a_large_last_answer_is_not_cut_off_when_the_server_closes() -> None:
    async def scenario() -> None:
        async with fakes(1) as servers, proxy(*servers) as one:
            servers[0].answer = b"Mode: " + bytes(3_000_000)
            reader, writer = await one.connect()
            writer.write(b"srvr")
            writer.write_eof()
            await asyncio.sleep(0.3)
            assert len(await reader.read()) == 3_000_006

    asyncio.run(scenario())


def test_a_slow_end_slows_the_other_and_fills_no_memory() -> None:
    async def scenario() -> None:
        async with fakes(1) as servers, proxy(*servers) as one:
            servers[0].reading.clear()
            _, writer = await one.connect()

            async def pour() -> None:
                # Not at once: asyncio would move all that it still has after each part it sends.
                for _ in range(1024):
                    writer.write(bytes(64 << 10))
                    await writer.drain()

            pouring = asyncio.create_task(pour())
            passed = -1
            async with asyncio.timeout(PATIENCE):
                while passed <= 0 or passed < one.relay.counts.to_servers:  # until buffers are full
                    passed = one.relay.counts.to_servers
                    await asyncio.sleep(0.3)
            assert 0 < passed < 32 << 20
            pouring.cancel()
            writer.transport.abort()

    asyncio.run(scenario())


# --- servers that fail ---


def test_a_dead_server_costs_a_client_nothing() -> None:
    async def scenario() -> None:
        async with fakes(3) as servers, proxy(*servers, watch=True, health=5.0) as one:
            await asyncio.sleep(0.2)
            for dead in servers[:2]:
                dead.stop()
            for _ in range(6):
                assert await one.says() == b"s2:x"
            # Noticed by the clients' failures, not by the next look five seconds later.
            await until(lambda: [s.failures > 0 for s in one.servers.all] == [True, True, False])
            assert one.relay.counts.refused == {}

    asyncio.run(scenario())


def test_a_server_that_is_back_is_used_again() -> None:
    async def scenario() -> None:
        async with fakes(2) as servers, proxy(*servers, watch=True) as one:
            servers[0].stop()
            await until(lambda: not one.servers.all[0].up)
            await servers[0].start()
            await until(lambda: one.servers.all[0].up)
            assert {await one.says() for _ in range(4)} >= {b"s0:x"}
            assert one.servers.all[0].downs_total == 1

    asyncio.run(scenario())


def test_a_server_without_a_quorum_gets_nobody_and_loses_those_it_has() -> None:
    """It accepts connections, so only asking it tells."""

    async def scenario() -> None:
        async with fakes(2) as servers, proxy(*servers, watch=True) as one:
            clients = [await one.connect() for _ in range(4)]
            await until(lambda: all(s.connections == 2 for s in one.servers.all))
            servers[0].answer = b"This ZooKeeper instance is not currently serving requests\n"
            await until(lambda: one.servers.all[0].connections == 0)
            assert "no quorum" in one.servers.all[0].reason
            assert one.relay.counts.ended["server down"] == 2
            assert one.servers.all[1].connections == 2
            assert {await one.says() for _ in range(4)} == {b"s1:x"}
            for _, writer in clients:
                writer.transport.abort()

    asyncio.run(scenario())


def test_a_server_that_does_not_allow_the_word_is_alive() -> None:
    async def scenario() -> None:
        async with fakes(1) as servers, proxy(*servers, watch=True) as one:
            servers[0].answer = b"srvr is not executed because it is not in the whitelist.\n"
            await asyncio.sleep(0.5)
            assert one.servers.all[0].up
            servers[0].answer = b"HTTP/1.1 400 Bad Request\n"
            await until(lambda: not one.servers.all[0].up)
            assert "is not a ZooKeeper" in one.servers.all[0].reason

    asyncio.run(scenario())


def test_with_no_server_at_all_a_client_is_told_by_a_closed_connection() -> None:
    async def scenario() -> None:
        async with fakes(1) as servers, proxy(*servers) as one:
            servers[0].stop()
            assert await one.says() == b""
            assert one.relay.counts.refused == {"no server": 1}
            assert one.relay.connections == 0

    asyncio.run(scenario())


# --- limits and silence ---


def test_limits_hold_for_a_source_and_for_all() -> None:
    async def scenario() -> None:
        async with fakes(1) as servers, proxy(*servers, max_per_source=2, max_connections=3) as one:
            held = [await one.connect() for _ in range(2)]
            await until(lambda: one.relay.connections == 2)
            assert await one.says() == b""
            held.append(await one.connect("127.0.0.2"))
            await until(lambda: one.relay.connections == 3)
            reader, _ = await one.connect("127.0.0.3")
            with contextlib.suppress(OSError):
                assert await reader.read(1) == b""
            assert one.relay.counts.refused == {"source": 1, "full": 1}
            held[0][1].transport.abort()
            await until(lambda: one.relay.connections == 2)
            assert await one.says() == b"s0:x"
            for _, writer in held:
                writer.transport.abort()

    asyncio.run(scenario())


def test_silence_both_ways_ends_a_connection_and_a_ping_does_not_let_it() -> None:
    async def scenario() -> None:
        async with fakes(1) as servers, proxy(*servers, idle=1.5) as one:
            silent, kept = await one.connect()
            reader, writer = await one.connect()
            for _ in range(8):
                writer.write(b"ping")
                await reader.readexactly(7)
                await asyncio.sleep(0.25)
            assert await silent.read(1) == b""
            assert one.relay.counts.ended == {"silent": 1}
            assert one.relay.connections == 1
            for each in (kept, writer):
                each.transport.abort()

    asyncio.run(scenario())


def test_who_sends_a_byte_now_and_then_and_no_request_does_not_hold_its_place() -> None:
    """The server has nothing to answer, and so the connection is silent."""

    async def scenario() -> None:
        async with fakes(1) as servers, proxy(*servers, idle=1.0) as one:
            servers[0].reading.clear()  # it says nothing
            reader, writer = await one.connect()

            async def drip() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        writer.write(b"x")
                        await writer.drain()
                        await asyncio.sleep(0.05)

            dripping = asyncio.create_task(drip())
            async with asyncio.timeout(PATIENCE):
                with contextlib.suppress(OSError):
                    assert await reader.read(1) == b""
            dripping.cancel()
            assert one.relay.counts.ended == {"silent": 1}
            servers[0].reading.set()

    asyncio.run(scenario())


def test_many_who_ask_for_metrics_and_say_nothing_take_no_more_than_a_few_places() -> None:
    async def scenario() -> None:
        async with fakes(1) as servers, proxy(*servers) as one:
            place = Endpoint("127.0.0.1", free_port())
            listener = await metrics.serve(place, one.relay, one.servers)
            made = [await asyncio.open_connection(place.host, place.port) for _ in range(40)]
            turned_away = 0
            for reader, _ in made[metrics._AT_ONCE :]:
                async with asyncio.timeout(PATIENCE):
                    with contextlib.suppress(OSError):
                        assert await reader.read(1) == b""
                turned_away += 1
            assert turned_away == 40 - metrics._AT_ONCE
            assert not made[0][0].at_eof()
            for _, writer in made:
                writer.transport.abort()
            listener.close()

    asyncio.run(scenario())


def test_a_client_that_resets_ends_at_the_server_too() -> None:
    async def scenario() -> None:
        async with fakes(1) as servers, proxy(*servers) as one:
            _, writer = await one.connect()
            await until(lambda: len(servers[0].writers) == 1)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            await until(lambda: not servers[0].writers)
            assert one.relay.connections == 0

    asyncio.run(scenario())


def test_3000_connections_at_once() -> None:
    raise_file_limit(6100)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 12_200:
        pytest.skip("this process may not open 12,200 files")

    async def scenario() -> None:
        async with (
            fakes(3) as servers,
            proxy(*servers, watch=True, health=30.0, connect=20.0) as one,
        ):
            held = []
            for _ in range(30):
                held += await asyncio.gather(*(one.connect() for _ in range(100)))
            for _, writer in held:
                writer.write(b"ping")
            answers = await asyncio.gather(*(reader.readexactly(7) for reader, _ in held))
            assert one.relay.connections == 3000
            assert {answer[3:] for answer in answers} == {b"ping"}
            assert [s.connections for s in one.servers.all] == [1000, 1000, 1000]
            for _, writer in held:
                writer.transport.abort()
            await until(lambda: one.relay.connections == 0)

    asyncio.run(scenario())


def test_stopping_spreads_the_ends_and_takes_no_new_connection() -> None:
    async def scenario() -> None:
        async with fakes(1) as servers, proxy(*servers, drain=1.0) as one:
            held = [await one.connect() for _ in range(100)]
            await until(lambda: one.relay.connections == 100)
            one.relay.stop_listening()
            began = asyncio.get_running_loop().time()
            await one.relay.drain()
            assert 0.5 < asyncio.get_running_loop().time() - began < PATIENCE
            assert one.relay.connections == 0
            for reader, _ in held:
                with contextlib.suppress(OSError):
                    assert await reader.read(1) == b""
            with pytest.raises(OSError, match=r"refused|Connect"):
                await one.connect()

    asyncio.run(scenario())


def test_metrics_tell_what_happened() -> None:
    async def scenario() -> None:
        async with fakes(2) as servers, proxy(*servers, watch=True) as one:
            servers[1].stop()
            await until(lambda: not one.servers.all[1].up)
            for _ in range(3):
                await one.says()
            await until(lambda: one.relay.connections == 0)
            place = Endpoint("127.0.0.1", free_port())
            listener = await metrics.serve(place, one.relay, one.servers)
            reader, writer = await asyncio.open_connection(place.host, place.port)
            writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
            told = (await reader.read()).decode()
            listener.close()
            assert told.startswith("HTTP/1.0 200 OK")
            assert "\nneti_zk_proxy_accepted_total 3\n" in told
            assert 'bytes_total{direction="to_servers"} 3\n' in told
            up = f'neti_zk_proxy_server_up{{server="127.0.0.1:{servers[1].port}"}}'
            assert f"{up} 0\n" in told

    asyncio.run(scenario())


# --- nonsense is refused ---


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "--server is missing"),
        (("--server", "10.0.0.1"), "--server 10.0.0.1: expected HOST:PORT"),
        (("--server", "10.0.0.1:0"), "expected HOST:PORT"),
        (("--server", ":2181"), "expected HOST:PORT"),
        (("--server", "10.0.0.1:1", "--server", "10.0.0.1:1"), "is given twice"),
        (("--server", "127.0.0.1:2181"), "would relay to itself"),
        (("--server", "10.0.0.1:2181", "--listen", "10.0.0.1:2181"), "would relay to itself"),
        (("--server", "10.0.0.1:2181", "--idle", "30"), "expected more than 40"),
        (("--server", "10.0.0.1:1", "--metrics", "0.0.0.0:2181"), "is also --listen"),
        (("--server", "10.0.0.1:1", "--max-connections", "10"), "is more than"),
        (("--remove",), "belongs to --kernel"),
        (("--server", "10.0.0.1:1", "--listen", "192.0.2.77:2181"), "cannot listen on 192.0.2.77"),
        (
            ("--server", "10.0.0.1:1", "--health-tls", "/no/ca", "/no/cert", "/no/key"),
            "there is no file /no/ca",
        ),
    ],
)
def test_nonsense_is_refused_in_one_sentence(
    arguments: tuple[str, ...], why: str, tmp_path: Path
) -> None:
    config = tmp_path / "none.yml"
    result = CliRunner().invoke(cli, ["zk-proxy", "-c", str(config), *arguments])
    assert result.exit_code in (1, 2)
    assert why in result.stderr
    assert result.stderr.count("\n") == 1


def test_more_connections_than_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    with pytest.raises(ConfigError, match=r"needs 8064 open files.*may have 4096"):
        raise_file_limit(4000)


def test_no_proxy_beside_an_agent(tmp_path: Path) -> None:
    """Where the configuration says that an agent's socket is, one answers."""
    config = tmp_path / "neti.yml"
    config.write_text(
        f"registry: embedded:{tmp_path / 'r.db'}\ntable_files_path: {tmp_path}\nsite: ec2\n"
    )
    main.refuse_beside_agent(config)
    agent = ControlServer(tmp_path, lambda request: request.succeed({}))
    agent.start()
    try:
        with pytest.raises(NetiError, match="an agent runs on this host"):
            main.refuse_beside_agent(config)
    finally:
        agent.close()


def test_the_kernels_rules_know_addresses_only() -> None:
    told = ProxySettings(
        listen=endpoint("--listen", "0.0.0.0:2181"),
        servers=(endpoint("--server", "zk1.example:2181"),),
    )
    with pytest.raises(ConfigError, match=r"--server zk1\.example:2181: --kernel needs an IPv4"):
        kernel.rules(checked(told))
