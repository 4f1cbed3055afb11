"""Tests on a real ZooKeeper: one shared server, or one of their own to be rough with."""

from collections.abc import Iterator

import pytest
from tests.support.zookeeper import (
    SecureWorld,
    ZooKeeperWorld,
    certificates,
    need_zookeeper,
    secure_server,
    shared_server,
)

from neti_lab.zookeeper import ServerTLS, ZooKeeperServer


@pytest.fixture
def world() -> Iterator[ZooKeeperWorld]:
    """A subtree of its own on the shared server."""
    made = ZooKeeperWorld(shared_server())
    yield made
    made.close()


@pytest.fixture
def secure() -> Iterator[SecureWorld]:
    """The same on the server with TLS and rights."""
    made = SecureWorld(secure_server())
    yield made
    made.close()


@pytest.fixture
def own_world() -> Iterator[ZooKeeperWorld]:
    """A server that only this test uses."""
    need_zookeeper()
    # Without limits, as it is installed: agents must bear what such a server lets others write.
    with ZooKeeperServer(tick_ms=200, limits=()) as server:
        made = ZooKeeperWorld(server)
        yield made
        made.close()


@pytest.fixture
def limited() -> Iterator[SecureWorld]:
    """On a server that runs as docs/security.md has it."""
    need_zookeeper()
    with ZooKeeperServer(tick_ms=200, security=ServerTLS.of(certificates(), "zk1")) as server:
        made = SecureWorld(server)
        yield made
        made.close()
