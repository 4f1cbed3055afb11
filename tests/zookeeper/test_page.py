"""docs/zookeeper.md, played: its settings start a server and an ensemble, and one becomes three in
the order that it says."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.support.zookeeper import need_zookeeper

from neti.cli import cli
from neti_lab.zookeeper import Peer, ZooKeeperServer

pytestmark = pytest.mark.zookeeper

PAGE = (Path(__file__).parents[2] / "docs/zookeeper.md").read_text()
SETTINGS, SERVERS = re.findall(r"^```ini\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
(JAVA,) = re.findall(r'^JAVA_OPTS="\$JAVA_OPTS -Xmx1g (.*)"$', PAGE, re.MULTILINE)
PAGES_ADDRESSES = re.findall(r"=([\d.]+):2888:3888", SERVERS)
# What is left to say of a server without TLS, as the page has it.
OPEN = {"no-tls", "open-nodes"}
ADDRESSES = ("127.0.21.4", "127.0.21.5", "127.0.21.6")


class PagesServer(ZooKeeperServer):
    """With the page's settings alone; only its folder, its addresses and its ports are others."""

    def __init__(self, number: int, of: list[Peer]) -> None:
        super().__init__(address=ADDRESSES[number - 1], number=number, limits=JAVA.split())
        self._of = of
        self._joins = False

    def join(self) -> None:
        """From its next start on it is one of three."""
        self._joins = True

    def _configure(self) -> None:
        super()._configure()
        data = self.folder / "data"
        lines = SETTINGS.replace("/var/lib/zookeeper", str(data))
        lines = lines.replace("clientPort=2181", f"clientPort={self.port}")
        lines += f"clientPortAddress={self.address}\n"
        if self._joins:
            lines += SERVERS
            for peer, written in zip(self._of, PAGES_ADDRESSES, strict=True):
                ports = f"{peer.quorum_port}:{peer.election_port}"
                lines = lines.replace(f"{written}:2888:3888", f"{peer.address}:{ports}")
            (data / "myid").write_text(f"{self._number}\n")
        (self.folder / "zoo.cfg").write_text(lines)

    @property
    def mode(self) -> str:
        return self.metrics()["zk_server_state"]


@pytest.fixture(name="three")
def _three() -> Iterator[list[PagesServer]]:
    """None of them is started."""
    need_zookeeper()
    peers = [Peer.on_free_ports(address) for address in ADDRESSES]
    with ExitStack() as stack:
        servers = [PagesServer(number, peers) for number in (1, 2, 3)]
        for server in servers:
            stack.callback(server.close)
        yield servers


def found(said: dict[str, Any]) -> set[str]:
    return {one["code"] for one in said["findings"] if one["severity"] != "note"}


def registry(tmp_path: Path, servers: list[PagesServer], command: str) -> dict[str, Any]:
    config = tmp_path / "neti.yml"
    hosts = json.dumps([server.hosts for server in servers])
    config.write_text(
        f"zk_hosts: {{vpc: {hosts}}}\nsite: vpc\nsites: {{vpc: {{private: [10.0.0.0/8]}}}}\n"
        f"table_files_path: {tmp_path}/state\nidentity: {{id: x, private: 10.9.9.9}}\n"
    )
    done = CliRunner().invoke(cli, ["registry", command, "--json", "-c", str(config)])
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_one_server_becomes_three_and_nothing_is_lost(
    three: list[PagesServer], tmp_path: Path
) -> None:
    old, second, third = three
    old.start()
    assert old.mode == "standalone"
    registry(tmp_path, [old], "init")
    assert found(registry(tmp_path, [old], "check")) == OPEN
    before = old.metrics()["zk_znode_count"]
    for server in three:
        server.join()
    old.stop()
    old.spawn()
    second.start()
    old.wait()
    third.start()
    assert sorted(server.mode for server in three) == ["follower", "follower", "leader"]
    assert old.mode == "leader"
    assert [server.metrics()["zk_znode_count"] for server in three] == [before] * 3
    assert found(registry(tmp_path, three, "check")) == OPEN


def test_in_the_wrong_order_the_data_of_the_old_server_go(
    three: list[PagesServer], tmp_path: Path
) -> None:
    old, *new = three
    old.start()
    registry(tmp_path, [old], "init")
    before = int(old.metrics()["zk_znode_count"])
    old.stop()
    for server in three:
        server.join()
    for server in new:
        server.spawn()
    for server in new:
        server.wait()
    old.start()
    assert int(old.metrics()["zk_znode_count"]) < before
