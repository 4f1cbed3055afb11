"""Who listens on this machine: read from a /proc of files, and from the real one."""

import os
import socket
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from neti.host.listeners import listeners, with_owners
from neti.stage.shadow import Listener

pytestmark = pytest.mark.skipif(
    sys.byteorder != "little", reason="the files below are a little-endian machine's"
)

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid ...\n"
REST = "00000000:00000000 00:00000000 00000000     0        0"
TCP = HEAD + "".join(
    f"   {n}: {local} 00000000:0000 {state} {REST} {1000 + n} 1 0000000000000000 100 0 0 10 0\n"
    for n, (local, state) in enumerate(
        [("00000000:0050", "0A"), ("0100007F:1F90", "0A"), ("0500000A:0016", "01")]
    )
)
TCP6 = HEAD + "".join(
    f"   {n}: {local} {'0' * 32}:0000 0A {REST} {2000 + n} 1 0000000000000000 100 0 0 10 0\n"
    for n, local in enumerate(
        [
            f"{'0' * 32}:01BB",
            "000000FD000000000000000005000000:0016",
            "0000000000000000FFFF00000500000A:0019",
        ]
    )
)
UDP = HEAD + "".join(
    f" {n}: {local} {remote} {state} {REST} {3000 + n} 2 0000000000000000 0\n"
    for n, (local, remote, state) in enumerate(
        [
            ("00000000:0035", "00000000:0000", "07"),
            ("0500000A:D431", "0800000A:0035", "01"),
        ]
    )
)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    net = tmp_path / "thread-self/net"
    net.mkdir(parents=True)
    for name, text in (("tcp", TCP), ("tcp6", TCP6), ("udp", UDP)):
        (net / name).write_text(text)
    return tmp_path


def owner(proc: Path, pid: int, inodes: list[int], cgroup: str = "0::/\n") -> None:
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    for number, inode in enumerate(inodes):
        (folder / "fd" / str(number)).symlink_to(f"socket:[{inode}]")
    (folder / "comm").write_text(f"program{pid}\n")
    (folder / "cgroup").write_text(cgroup)


def test_what_waits_for_others_is_found(proc: Path) -> None:
    """Listening TCP, bound and unconnected UDP, of both families; a mapped address is IPv4's; a
    missing table (no IPv6) is no error."""
    assert [(one.protocol, str(one.address), one.port, one.inode) for one in listeners(proc)] == [
        ("tcp", "0.0.0.0", 80, 1000),
        ("tcp", "127.0.0.1", 8080, 1001),
        ("tcp", "::", 443, 2000),
        ("tcp", "fd00::5", 22, 2001),
        ("tcp", "10.0.0.5", 25, 2002),
        ("udp", "0.0.0.0", 53, 3000),
    ]


def test_owners_are_found_by_inode(proc: Path) -> None:
    """Pid, name and unit; of several that share a socket the first one, which made it."""
    owner(proc, 300, [2000, 5])
    owner(proc, 20, [1000, 2000], "0::/system.slice/nginx.service\n")
    owner(proc, 21, [1000])
    owner(proc, 40, [3000], "3:cpuset:/\n1:name=systemd:/system.slice/dns.service/worker\n0::/\n")
    (proc / "21/fd/99").symlink_to("pipe:[1000]")
    found = {one.port: one for one in with_owners(listeners(proc), proc)}
    assert found[80] == Listener(
        "tcp", 80, ip_address("0.0.0.0"), 1000, 20, "program20", "nginx.service"
    )
    assert found[443].pid == 20
    assert found[53].unit == "dns.service"
    assert found[22].pid is None


def test_what_may_not_be_looked_at_is_unknown(proc: Path) -> None:
    """A process that has ended, and a name that would move the cursor, are no trouble either."""
    (proc / "77").mkdir()
    owner(proc, 78, [1000])
    (proc / "78/comm").write_bytes(b"a\x1b[2Jb\xff\n")
    (proc / "78/cgroup").unlink()
    found = with_owners(listeners(proc), proc)[0]
    assert found.pid == 78
    assert found.process is not None
    assert found.process.isprintable()
    assert found.unit is None


def test_a_real_socket_is_ours() -> None:
    """The real /proc says the same of a socket of this process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        mine = [one for one in listeners() if (one.protocol, one.port) == ("tcp", port)]
        assert [str(one.address) for one in mine] == ["127.0.0.1"]
        assert with_owners(mine)[0].pid == os.getpid()
    assert all((one.protocol, one.port) != ("tcp", port) for one in listeners())
