"""The proxy as rules of the kernel: packets reach the servers, and other tables are left alone."""

import subprocess

import pytest
from click.testing import CliRunner, Result
from tests.support import netns
from tests.support.netns import Net, Server, alive, connect, reaches

from neti.cli import cli

pytestmark = pytest.mark.kernel

LISTEN = f"{netns.PRIVATE}:2181"
OTHER = (
    "add table ip neighbour",
    "add chain ip neighbour prerouting { type nat hook prerouting priority -100 ; }",
    "add rule ip neighbour prerouting tcp dport 99 accept",
)


def proxy(net: Net, *arguments: str) -> Result:
    return net.inside(
        net.host,
        lambda: CliRunner().invoke(cli, ["zk-proxy", "-c", "/nonexistent/neti.yml", *arguments]),
    )


def nft(net: Net, *words: str) -> str:
    command = ["ip", "netns", "exec", net.host, "nft", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_client_reaches_the_server_behind_and_the_server_sees_the_proxy(net: Net) -> None:
    server = Server(net, net.container, 2281, "0.0.0.0")
    with pytest.raises(ConnectionRefusedError):
        connect(net, net.outside, netns.PRIVATE, 2181)
    done = proxy(net, "--kernel", "--listen", LISTEN, "--server", f"{netns.CONTAINER}:2281")
    assert done.exit_code == 0, done.stderr
    assert reaches(net, net.outside, netns.PRIVATE, 2181)
    assert server.callers[-1] == "172.31.0.1"
    with pytest.raises(ConnectionRefusedError):
        connect(net, net.outside, netns.PRIVATE, 2182)


def test_it_comes_and_goes_without_touching_another_table(net: Net) -> None:
    Server(net, net.container, 2281, "0.0.0.0")
    for line in OTHER:
        nft(net, line)
    before = nft(net, "list", "ruleset")
    for _ in range(2):  # twice is the same as once
        done = proxy(net, "--kernel", "--listen", LISTEN, "--server", f"{netns.CONTAINER}:2281")
        assert done.exit_code == 0, done.stderr
    assert nft(net, "list", "table", "ip", "neti_zk_proxy").count("jhash") == 1
    held = connect(net, net.outside, netns.PRIVATE, 2181)
    assert alive(held)
    gone = proxy(net, "--kernel", "--remove")
    assert gone.stdout == "table ip neti_zk_proxy is gone\n"
    assert nft(net, "list", "ruleset") == before
    assert proxy(net, "--kernel", "--remove").stdout == "table ip neti_zk_proxy was not there\n"
    held.close()


def test_clients_are_spread_and_each_stays_with_its_server(net: Net) -> None:
    servers = [Server(net, net.container, port, "0.0.0.0") for port in (2281, 2282)]
    options = [f"--server={netns.CONTAINER}:{port}" for port in (2281, 2282)]
    done = proxy(net, "--kernel", "--listen", "0.0.0.0:2181", *options)
    assert done.exit_code == 0, done.stderr
    chosen: dict[str, set[int]] = {}
    for source in (netns.PEER, netns.STRANGER, netns.ADMIN, netns.PEER_MOVED):
        for _ in range(3):
            before = [len(server.callers) for server in servers]
            assert reaches(net, net.outside, netns.PRIVATE, 2181, source=source)
            after = [len(server.callers) for server in servers]
            chosen.setdefault(source, set()).add(after[1] - before[1])
    assert all(len(places) == 1 for places in chosen.values())


def test_it_is_refused_where_nothing_is_forwarded_or_neti_is(net: Net) -> None:
    server = ("--server", f"{netns.CONTAINER}:2281")
    nft(net, "add table inet neti")
    done = proxy(net, "--kernel", "--listen", LISTEN, *server)
    assert done.exit_code == 1
    assert "an agent's rules are on this host" in done.stderr
    nft(net, "delete table inet neti")
    words = ["ip", "netns", "exec", net.host, "sysctl", "-q", "-w", "net.ipv4.ip_forward=0"]
    subprocess.run(words, check=True)
    done = proxy(net, "--kernel", "--listen", LISTEN, *server)
    assert "sysctl -w net.ipv4.ip_forward=1" in done.stderr
    assert "neti_zk_proxy" not in nft(net, "list", "tables")
