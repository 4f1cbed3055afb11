"""A fleet goes over to another CA, and no agent is restarted: as docs/runbook.md has it."""

import shutil
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from tests.support.zookeeper import need_zookeeper

from neti.errors import RegistryError
from neti.model import Member, entry
from neti.model.settings import RegistryTLS
from neti.registry.zookeeper.certificates import Wanted, make
from neti.registry.zookeeper.registry import ZooKeeperRegistry
from neti_lab.zookeeper import ServerTLS, ZooKeeperServer

pytestmark = pytest.mark.zookeeper

SERVER = Wanted("zk1", "servers", ("127.0.0.1",))
HOST, OPERATOR = Wanted("a", "hosts"), Wanted("chief", "operators")


class Place:
    """Files in use, each replaced in place, as a host's or a server's are."""

    def __init__(self, folder: Path, old: Path, new: Path) -> None:
        folder.mkdir()
        self.folder, self.old, self.new = folder, old, new

    def trust(self, *authorities: Path) -> None:
        whole = b"".join((each / "ca.pem").read_bytes() for each in authorities)
        (self.folder / "ca.pem").write_bytes(whole)

    def take(self, authority: Path, stem: str) -> None:
        for file in authority.glob(f"{stem}.*"):
            shutil.copy(file, self.folder / file.name)

    def tls(self, stem: str) -> RegistryTLS:
        files = (self.folder / f"{stem}.pem", self.folder / f"{stem}.key")
        return RegistryTLS(ca=self.folder / "ca.pem", cert=files[0], key=files[1])


@pytest.fixture
def authorities(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("old", "new"):
        make(tmp_path / name, [SERVER, HOST, OPERATOR], days=30, now=time.time())
    return tmp_path / "old", tmp_path / "new"


@pytest.fixture
def places(tmp_path: Path, authorities: tuple[Path, Path]) -> tuple[Place, Place]:
    old, _ = authorities
    server, host = (Place(tmp_path / name, *authorities) for name in ("server", "host"))
    for place in (server, host):
        place.trust(old)
    server.take(old, "server-zk1")
    for stem in ("host-a", "operator-chief"):
        host.take(old, stem)
    return server, host


@pytest.fixture
def server(places: tuple[Place, Place]) -> Iterator[ZooKeeperServer]:
    need_zookeeper()
    security = ServerTLS.of(places[0].folder, "zk1")
    with ZooKeeperServer(tick_ms=200, limits=(), security=security) as made:
        yield made


def test_both_are_trusted_meanwhile_and_the_host_stays_registered(
    server: ZooKeeperServer, places: tuple[Place, Place], authorities: tuple[Path, Path]
) -> None:
    at_server, at_host = places
    old, new = authorities
    operator = ZooKeeperRegistry([server.hosts], files=at_host.tls("operator-chief"))
    operator.init(operator.plan_init())
    operator.close()
    host = ZooKeeperRegistry([server.hosts], session_seconds=40, files=at_host.tls("host-a"))
    overlay = host.acquire("a", IPv4Network("192.168.0.0/24"))
    one = Member(id="a", site="ec2", private=IPv4Address("10.0.0.1"), public=None, overlay=overlay)
    name = entry.encode(one)
    host.register(host_id="a", name=name, data=b"", detail=b"{}", overlay=overlay)

    def still_there() -> None:
        host.describe("a", b"{}")  # as its owner
        assert host.names() == {name}

    at_host.trust(old, new)  # 1. everybody trusts both
    at_server.trust(old, new)
    server.restart()
    still_there()
    at_host.take(new, "host-a")  # 2. hosts' certificates of the new CA, with the same subjects
    server.restart()  # stands for any lost connection
    still_there()
    at_server.take(new, "server-zk1")  # 3. servers'
    server.restart()
    still_there()
    at_host.trust(new)  # 4. the old CA goes
    at_server.trust(new)
    server.restart()
    still_there()
    late = ZooKeeperRegistry(
        [server.hosts], files=at_host.tls("operator-chief"), timeout=3.0
    )  # whose certificate was forgotten
    with pytest.raises(RegistryError):
        late.names()
    late.close()
    host.close()
