"""A registry through ``neti zk-proxy``, with TLS from end to end, and a real server's bad days."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network

import pytest
from tests.support.recorder import Recorder
from tests.support.zookeeper import certificates, files_of, need_zookeeper

from neti.registry.zookeeper.registry import ZooKeeperRegistry
from neti_lab.zookeeper import Peer, ServerTLS, ZooKeeperServer, free_port

pytestmark = pytest.mark.zookeeper

SUBNET = IPv4Network("192.168.0.0/24")


@contextmanager
def relay(*servers: ZooKeeperServer, options: tuple[str, ...] = ()) -> Iterator[int]:
    """The command itself, as the unit runs it; its port."""
    port = free_port()
    command = [sys.executable, "-m", "neti", "zk-proxy", "-c", "/nonexistent/neti.yml"]
    command += ["--listen", f"127.0.0.1:{port}", "--drain", "0.2", *options]
    for server in servers:
        command += ["--server", server.hosts]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port
    finally:
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=20)
        assert running.returncode == 0, said


def test_an_agent_behind_a_proxy_speaks_tls_with_the_server_itself() -> None:
    need_zookeeper()
    security = ServerTLS.of(certificates(), "zk1")
    files = files_of("host-b")
    health = ("--health-tls", str(files.ca), str(files.cert), str(files.key))
    with (
        ZooKeeperServer(tick_ms=200, security=security) as server,
        relay(server, options=health) as port,
    ):
        place = [f"127.0.0.1:{port}"]
        chief = ZooKeeperRegistry(place, files=files_of("operator-chief"))
        chief.init(chief.plan_init())
        chief.close()
        host = ZooKeeperRegistry(place, session_seconds=4, files=files_of("host-a"))
        recorder = Recorder()
        host.watch(recorder)
        session = recorder.until_fresh()
        overlay = host.acquire("a", SUBNET)
        server.kill()
        recorder.until(lambda seen: not seen.fresh)
        server.start()
        assert recorder.until_fresh() == session
        assert host.leases() == {overlay: "a"}
        host.close()


def test_a_dead_leader_of_an_ensemble_costs_a_session_nothing() -> None:
    """The proxy leads the client to one of those that are left."""
    need_zookeeper()
    peers = [Peer.on_free_ports() for _ in range(3)]
    servers = [ZooKeeperServer(tick_ms=500, ensemble=peers, number=n) for n in (1, 2, 3)]
    try:
        for server in servers:
            server.spawn()
        for server in servers:
            server.wait(60)
        with relay(*servers) as port:
            host = ZooKeeperRegistry([f"127.0.0.1:{port}"], session_seconds=10)
            recorder = Recorder()
            host.watch(recorder)
            session = recorder.until_fresh()
            host.acquire("a", SUBNET)
            next(s for s in servers if "Mode: leader" in s.four_letters("srvr")).kill()
            recorder.until(lambda seen: not seen.fresh)
            assert recorder.until_fresh() == session
            assert host.lease_of("a") is not None
            host.close()
    finally:
        for server in servers:
            server.close()
