"""A real agent among those who connect and say nothing, and beside a hostile metadata service."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.kernel.test_agent_process import line, ruleset, wait
from tests.support import netns
from tests.support.netns import Net

from neti.control import client
from neti.model import Member, entry

pytestmark = pytest.mark.kernel

CONFIG = f"""\
registry: embedded:{{folder}}/registry.db
identity: {{identity}}
site: ec2
sites: {{{{ec2: {{{{private: [10.0.0.0/8]}}}}, vpc: {{{{private: [10.0.0.0/8]}}}}}}}}
ssh_whitelist: [10.0.0.77/32]
table_files_path: {{folder}}/state
metrics_listen: {netns.PRIVATE}:9177
"""
STATIC = f"{{id: a, private: {netns.PRIVATE}, public: 198.51.100.5}}"

# Holds as many connections as it may to each place, and says how many it has when it has them all.
_HOLDER = """
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
held = []
for place in sys.argv[1:]:
    host, _, port = place.rpartition(":")
    for number in range(1500):
        try:
            held.append(socket.create_connection((host, int(port)), timeout=0.2))
        except OSError:
            pass
print(len(held), flush=True)
time.sleep(600)
"""

# EC2's service until the file appears; then it answers as the file says.
_SERVICE = """
import socket, sys, threading, time
from ipaddress import IPv4Address
from pathlib import Path
from neti_lab.metadata import InstanceMetadata, MetadataService
hostile = Path(sys.argv[1])
good = MetadataService(InstanceMetadata(instance_id="i-0a1b2c3d", private=IPv4Address(sys.argv[2]),
    public=IPv4Address("198.51.100.5"), vpc_id="vpc-0aa1"))
good.start()
where = good.endpoint.rpartition(":")[2]
front = socket.create_server(("127.0.0.1", 8169))
print("ready", flush=True)
def serve(one):
    with one:
        request = one.recv(65536)
        if hostile.exists():
            one.sendall(hostile.read_bytes().replace(b"\\\\n", b"\\r\\n"))
            while hostile.stem == "never":
                one.sendall(b"x" * 65536)
            return
        with socket.create_connection(("127.0.0.1", int(where))) as other:
            other.sendall(request)
            while part := other.recv(65536):
                one.sendall(part)
while True:
    one, _ = front.accept()
    threading.Thread(target=serve, args=(one,), daemon=True).start()
"""


def written(tmp_path: Path, identity: str = STATIC) -> Path:
    path = tmp_path / "neti.yml"
    path.write_text(CONFIG.format(folder=tmp_path, identity=identity))
    return path


@contextmanager
def running(
    command: list[str], environment: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def inside(net: Net, *words: str) -> list[str]:
    return ["ip", "netns", "exec", net.host, *words]


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def registered(tmp_path: Path) -> Callable[[], bool]:
    return lambda: bool(client.call(tmp_path / "state", "status")["registered"])


def test_thousands_of_silent_connections_do_not_end_the_agent(net: Net, tmp_path: Path) -> None:
    """To the metrics and to the responder, with a stock limit of descriptors: it goes on repairing,
    answering its socket and its metrics, and says nothing that is not so."""
    config = written(tmp_path)
    limited = inside(net, "prlimit", "--nofile=1024:1024", *line(net, config, "agent")[4:])
    with running(limited) as agent:
        wait(registered(tmp_path))
        places = (f"{netns.PRIVATE}:9177", f"{netns.PRIVATE}:7077")
        holders = inside(net, sys.executable, "-c", _HOLDER, *places)
        with running(holders) as holder:
            assert int(first_line(holder)) > 1000
            used = len(list(Path(f"/proc/{agent.pid}/fd").iterdir()))
            assert used < 300
            subprocess.run(inside(net, "nft", "delete table inet neti"), check=True)
            wait(lambda: "table inet neti" in ruleset(net))
            assert agent.poll() is None
            assert client.call(tmp_path / "state", "status")["registered"]
            asked = inside(
                net, "curl", "-sS", "--max-time", "5", f"http://{netns.PRIVATE}:9177/metrics"
            )

            def scraped() -> bool:
                done = subprocess.run(asked, capture_output=True, text=True, check=False)
                return "neti_agent_up 1.0" in done.stdout

            wait(scraped, 40)
        assert agent.poll() is None


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("chunk", "HTTP/1.1 200 OK\\nTransfer-Encoding: chunked\\n\\n-5\\nhello\\n0\\n\\n"),
        ("never", "HTTP/1.1 200 OK\\n\\n"),
        ("bytes", "\x00\x1b]0;x\x07"),
    ],
)
def test_a_hostile_metadata_service_does_not_end_registration(
    net: Net, tmp_path: Path, kind: str, answer: str
) -> None:
    """The agent keeps its identity meanwhile, says so, and registers anew when it has to."""
    config = written(tmp_path, "auto")
    hostile = tmp_path / kind
    service = inside(net, sys.executable, "-c", _SERVICE, str(hostile), netns.PRIVATE)
    at = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:8169"}
    with running(service) as metadata, running(line(net, config, "agent"), at) as agent:
        assert first_line(metadata) == "ready"
        wait(registered(tmp_path))
        hostile.write_text(answer)
        agent.send_signal(signal.SIGHUP)  # asks for the identity at once

        def noticed() -> bool:
            status = client.call(tmp_path / "state", "status")
            return any(problem["code"] == "identity" for problem in status["problems"])

        wait(lambda: noticed() or _remembered(tmp_path), 30)
        before = _member(client.call(tmp_path / "state", "status")["entry"])
        # Whoever takes its registration away: it comes back, by the same worker.
        with sqlite3.connect(tmp_path / "registry.db", timeout=20) as store:
            store.execute("INSERT INTO changes (kind, subject) SELECT '-', name FROM names")
            store.execute("DELETE FROM names")
        wait(lambda: len(_names(tmp_path)) == 1, 40)
        wait(registered(tmp_path))
        after = _member(*_names(tmp_path))
        assert after == replace(before, generation=after.generation)  # its identity is as it was
        assert after.generation > before.generation
        resident = Path(f"/proc/{agent.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
        assert int(resident) < 150_000
        hostile.unlink()
        agent.send_signal(signal.SIGHUP)
        wait(lambda: not noticed(), 30)


def _member(name: str) -> Member:
    parsed = entry.parse(name)
    assert isinstance(parsed, Member)
    return parsed


def _names(tmp_path: Path) -> list[str]:
    with sqlite3.connect(tmp_path / "registry.db", timeout=20) as store:
        return [name for (name,) in store.execute("SELECT name FROM names")]


def _remembered(tmp_path: Path) -> bool:
    """The last answer stands in while the service only fails: that is no problem yet."""
    time.sleep(12)
    return (tmp_path / "state" / "identity.json").exists()
