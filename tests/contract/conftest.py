"""The contract suite runs on every registry there is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.worlds import (
    ClosedWorld,
    EmbeddedWorld,
    MemoryWorld,
    SimulatedWorld,
    World,
)


@pytest.fixture(
    params=[
        "memory",
        "simulated",
        "memory-acl",
        "embedded",
        pytest.param("zookeeper", marks=pytest.mark.zookeeper),
        pytest.param("zookeeper-tls-acl", marks=pytest.mark.zookeeper),
    ]
)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made: World
    match request.param:
        case "memory":
            made = MemoryWorld()
        case "simulated":
            made = SimulatedWorld()
        case "memory-acl":
            made = MemoryWorld(rights=True)
        case "embedded":
            made = EmbeddedWorld(tmp_path)
        case "zookeeper-tls-acl":
            from tests.support.zookeeper import SecureWorld, secure_server

            made = SecureWorld(secure_server())
        case _:
            from tests.support.zookeeper import ZooKeeperWorld, shared_server

            made = ZooKeeperWorld(shared_server())
    yield made
    made.close()


@pytest.fixture(
    params=[
        "memory-acl",
        pytest.param("zookeeper-tls-acl", marks=pytest.mark.zookeeper),
    ]
)
def closed(request: pytest.FixtureRequest) -> Iterator[ClosedWorld]:
    """Those registries that have rights."""
    made: ClosedWorld
    if request.param == "memory-acl":
        made = MemoryWorld(rights=True)
    else:
        from tests.support.zookeeper import SecureWorld, secure_server

        made = SecureWorld(secure_server())
    yield made
    made.close()
