"""A real ZooKeeper for tests, and how to get at it behind a registry's back."""

import functools
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.protocol.serialization import Create
from tests.support.run_end import at_the_end

from neti.errors import NetiError
from neti.model.settings import RegistryTLS
from neti.registry import Registry, Session, SettingEdit, SettingName
from neti.registry.admitted import Asked
from neti.registry.leases import DamagedLease
from neti.registry.revoked import RevokedKey
from neti.registry.zookeeper import admission
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.certificates import Wanted, make, subject
from neti.registry.zookeeper.layout import Layout
from neti.registry.zookeeper.registry import ZooKeeperRegistry
from neti.registry.zookeeper.rights import OPEN
from neti_lab.zookeeper import ServerTLS, ZooKeeperServer, require_package

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
    # Without limits, as it is installed: agents must bear what such a server lets others write.
    server = ZooKeeperServer(tick_ms=200, limits=())
    at_the_end(server.close)
    server.start()
    return server


@functools.cache
def certificates() -> Path:
    """A CA, a server of 127.0.0.1, a super user, an operator and some hosts, for one run."""
    folder = Path(tempfile.mkdtemp(prefix="neti-certificates-"))
    at_the_end(partial(shutil.rmtree, folder, ignore_errors=True))
    wanted = [
        Wanted("zk1", "servers", ("127.0.0.1", "localhost")),
        Wanted("chief", "operators"),
        Wanted("root", "supers"),
        *(Wanted(name, "hosts") for name in ("a", "b", "c")),
    ]
    make(folder, wanted, days=30, now=time.time())
    return folder


def files_of(stem: str) -> RegistryTLS:
    folder = certificates()
    return RegistryTLS(
        ca=folder / "ca.pem", cert=folder / f"{stem}.pem", key=folder / f"{stem}.key"
    )


@functools.cache
def secure_server() -> ZooKeeperServer:
    """A server with mutual TLS and nothing else, shared as ``shared_server`` is."""
    need_zookeeper()
    server = ZooKeeperServer(tick_ms=200, limits=(), security=ServerTLS.of(certificates(), "zk1"))
    at_the_end(server.close)
    server.start()
    return server


class ZooKeeperWorld:
    """A subtree of its own on a server that many tests share."""

    deletes = True

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

    def operator(self) -> ZooKeeperRegistry:
        return self.open()

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


class SecureWorld(ZooKeeperWorld):
    """The same behind mutual TLS, laid out with rights. Host ``a`` does what hosts do, and an
    operator what operators do, each call with the certificate that it takes in real life."""

    deletes = False

    def __init__(self, server: ZooKeeperServer) -> None:
        super().__init__(server)
        operator = self.open_as("operator-chief")
        operator.init(operator.plan_init())

    def open_as(self, stem: str, session: Session | None = None) -> ZooKeeperRegistry:
        registry = ZooKeeperRegistry(
            [self.server.hosts],
            prefix=self.prefix,
            session=session,
            session_seconds=self._seconds,
            files=files_of(stem),
        )
        self._open.append(registry)
        return registry

    def open(
        self, session: Session | None = None, *, hosts: Sequence[str] = (), timeout: float = 10.0
    ) -> ZooKeeperRegistry:
        return _HostAndOperator(self, session)

    def operator(self) -> ZooKeeperRegistry:
        return self.open_as("operator-chief")

    def need_admission(self) -> None:
        self.open_as("operator-chief").operate(
            lambda attempt, layout: admission.change(attempt, layout, on=True)
        )

    def admit(self, host_id: str, stem: str) -> None:
        asked, subnet = (
            [Asked(host_id, subject(files_of(stem).cert))],
            IPv4Network("192.168.0.0/24"),
        )

        def admit(attempt: Attempt, layout: Layout) -> None:
            steps, refused = admission.plan(attempt, layout, asked, subnet=subnet)
            assert not refused
            assert not admission.carry_out(attempt, layout, steps, subnet)

        self.open_as("operator-chief").operate(admit)

    def expire(self, session: Session) -> None:
        registry = self.open_as("host-a", session)
        registry.close()

    def put_junk(self, name: str) -> None:
        registry = self.open_as("host-b")
        path = f"{self.prefix}/ip-map/{name}"
        registry.inspect(lambda attempt, _: attempt.one(Create(path, b"", list(OPEN), 0)))


class _HostAndOperator(ZooKeeperRegistry):
    """A host's registry, whose operator's calls go by an operator's certificate."""

    def __init__(self, world: SecureWorld, session: Session | None) -> None:
        super().__init__(
            [world.server.hosts],
            prefix=world.prefix,
            session=session,
            session_seconds=world._seconds,
            files=files_of("host-a"),
        )
        world._open.append(self)
        self._world = world

    def release(self, host_id: str) -> IPv4Address | DamagedLease | None:
        return self._world.open_as("operator-chief").release(host_id)

    def move(
        self, old: str, new: str, *, force: bool = False
    ) -> tuple[IPv4Address, IPv4Address | None]:
        return self._world.open_as("operator-chief").move(old, new, force=force)

    def change_setting(self, setting: SettingName, value: bytes | None) -> None:
        self._world.open_as("operator-chief").change_setting(setting, value)

    def edit_setting(self, setting: SettingName, edit: SettingEdit) -> None:
        self._world.open_as("operator-chief").edit_setting(setting, edit)

    def revoke_key(self, host_id: str, key: str | None = None) -> RevokedKey | None:
        return self._world.open_as("operator-chief").revoke_key(host_id, key)
