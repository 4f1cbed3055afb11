"""A real ZooKeeper for tests, and how to get at it behind a registry's back."""

import atexit
import functools
import itertools
import os
from collections.abc import Sequence

import pytest
from kazoo.client import KazooClient

from neti.errors import NetiError
from neti.lab.zookeeper import ZooKeeperServer, require_package
from neti.registry import Registry, Session
from neti.registry.zookeeper import ZooKeeperRegistry

_PREFIXES = itertools.count(1)


def need_zookeeper() -> None:
    """Skip where there is no server to run; in CI that is a failure."""
    try:
        require_package()
    except NetiError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@functools.cache
def shared_server() -> ZooKeeperServer:
    """The server that most tests of one run share; it ends with the run."""
    need_zookeeper()
    server = ZooKeeperServer(tick_ms=200)
    atexit.register(server.close)
    server.start()
    return server


class ZooKeeperWorld:
    """A subtree of its own on a server that many tests share."""

    def __init__(self, server: ZooKeeperServer, *, session_seconds: float = 4.0) -> None:
        self.server = server
        self.prefix = f"/test-{next(_PREFIXES)}/neti"
        self._seconds = session_seconds
        self._open: list[Registry] = []
        self._client: KazooClient | None = None

    def open(
        self, session: Session | None = None, *, hosts: Sequence[str] = (), timeout: float = 10.0
    ) -> ZooKeeperRegistry:
        registry = ZooKeeperRegistry(
            hosts or [self.server.hosts],
            prefix=self.prefix,
            session=session,
            session_seconds=self._seconds,
            timeout=timeout,
        )
        self._open.append(registry)
        return registry

    def expire(self, session: Session) -> None:
        # For the server, a session that is closed from elsewhere is as gone as an expired one.
        client = KazooClient(self.server.hosts, client_id=(session.id, session.password))
        client.start()
        client.stop()
        client.close()

    def put_junk(self, name: str) -> None:
        self.client.create(f"{self.prefix}/ip-map/{name}", makepath=True)

    @property
    def client(self) -> KazooClient:
        """A plain client, for what no agent does."""
        if self._client is None:
            self._client = KazooClient(self.server.hosts)
            self._client.start()
        return self._client

    def close(self) -> None:
        for registry in self._open:
            registry.close()
        if self._client is not None:
            self._client.stop()
            self._client.close()
