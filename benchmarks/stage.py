"""Where it happens: four network namespaces, a ZooKeeper, an agent; and the end of them.

    registry (ZooKeeper, 10.0.0.1) ─┬─ eth0 host (neti agent, 10.0.0.5)     raw (libnftables only)
                                    └─ eth0 old  (the 2014 pipeline)

Must never do: touch the machine's own network, or end a process that it did not start.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

import yaml
from tests.support.agent_process import AgentProcess

from benchmarks import registry
from benchmarks.fleet import (
    AGENT_ID,
    AGENT_PRIVATE,
    TLS_PORT,
    ZOOKEEPER,
    ZOOKEEPER_PORT,
    configuration,
)
from benchmarks.kernel import KernelEvents
from drills import certified
from neti.config import load
from neti.dataplane import other_table
from neti.dataplane.nftables import NftablesDataplane
from neti.model.settings import Settings
from neti.ruleset.objects import FAMILY_TABLE
from neti_lab import namespaces
from neti_lab.wiring import Node, Wiring
from neti_lab.zookeeper import ServerTLS, ZooKeeperServer

_SYSCTLS: Final = {"ip_forward": "0", "rp_filter": "0"}


class Stage:
    """As a context manager it is built, and taken down again whatever happens within."""

    def __init__(self, *, heap_mb: int = 1024, certified: bool = False) -> None:
        """``certified``: agents come over TLS, and are strict; whoever makes the fleet does not."""
        self._heap_mb = heap_mb
        self._certified = certified
        prefix = f"neti-bench-{os.getpid()}"
        self.registry, self.host, self.old, self.raw = self.namespaces = tuple(
            f"{prefix}-{part}" for part in ("zk", "host", "old", "raw")
        )
        self._stack = ExitStack()
        self.folder = Path()
        self.zookeeper: ZooKeeperServer
        self.settings: Settings

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="neti-bench-"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            stack.callback(namespaces.delete, self.namespaces)
            namespaces.build(self._wiring())
            self.zookeeper = namespaces.call_inside(self.registry, self._server)
            stack.enter_context(self.zookeeper)
            namespaces.call_inside(self.registry, registry.lay_out)
            tls = None
            if self._certified:
                namespaces.call_inside(self.registry, registry.be_strict)
                tls = certified.keys(self.folder, f"host-{AGENT_ID}")
            config = yaml.safe_dump(configuration(str(self._state), tls), sort_keys=False)
            self._config.write_text(config)
            plain = yaml.safe_dump(configuration(str(self._state)), sort_keys=False)
            self._plain.write_text(plain)
            self.settings = load(self._config)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _server(self) -> ZooKeeperServer:
        security = None
        if self._certified:
            certified.make_for(self.folder, [AGENT_ID])
            security = ServerTLS.of(self.folder, certified.SERVER, plain=True, enforced=False)
        server = ZooKeeperServer(
            address=str(ZOOKEEPER),
            port=TLS_PORT if self._certified else ZOOKEEPER_PORT,
            namespace=self.registry,
            heap_mb=self._heap_mb,
            security=security,
        )
        if self._certified:
            server.plain_port = ZOOKEEPER_PORT
        return server

    @property
    def _state(self) -> Path:
        return self.folder / "state"

    @property
    def _config(self) -> Path:
        return self.folder / "neti.yml"

    @property
    def _plain(self) -> Path:
        return self.folder / "plain.yml"

    # --- the agent ---

    @contextlib.contextmanager
    def agent(
        self,
        *,
        program: str = "neti",
        around: Sequence[str] = (),
        plain: bool = False,
        inside: Sequence[str] = (),
    ) -> Iterator[AgentProcess]:
        """A new agent on a host that has never had one; it is ended, and its rules stay.
        ``around``: a command that runs it; ``plain``: without TLS, whatever others do; ``inside``:
        what stands before its command line in the namespace."""
        self._clean_host()
        agent = AgentProcess(
            self.host,
            config=self._plain if plain else self._config,
            state=self._state,
            log=self.folder / "agent.log",
            program=program,
        )
        agent.inside = tuple(inside)
        agent.log.unlink(missing_ok=True)
        try:
            agent.start(around)
            yield agent
        finally:
            agent.end()

    def _clean_host(self) -> None:
        shutil.rmtree(self._state, ignore_errors=True)
        self._state.mkdir(mode=0o700)
        namespaces.call_inside(self.host, lambda: other_table.remove(*FAMILY_TABLE.split()))
        flush = ["ip", "-4", "route", "flush", "exact", str(self.settings.overlay_subnet)]
        inside = namespaces.command_inside(self.host, flush)
        subprocess.run(inside, check=False, capture_output=True)

    def overlay_count(self) -> int:
        """How many overlay addresses the agent's kernel holds. Not cheap: not while measuring."""
        with contextlib.closing(namespaces.call_inside(self.host, NftablesDataplane)) as dataplane:
            return len(dataplane.read().elements.get("overlay", ()))

    def encrypt(self, word: str) -> None:
        """What the other site says from the agent's next start on."""
        config = yaml.safe_dump(configuration(str(self._state), encrypt=word), sort_keys=False)
        self._config.write_text(config)

    @property
    def zookeeper_process(self) -> int:
        pid = self.zookeeper.pid
        assert pid is not None, "the server runs as long as the stage"
        return pid

    # --- doors into the namespaces ---

    def events(self, namespace: str) -> KernelEvents:
        return namespaces.call_inside(namespace, KernelEvents)

    def session(self) -> registry.Session:
        return namespaces.call_inside(self.registry, registry.Session)

    def raw_dataplane(self) -> NftablesDataplane:
        return namespaces.call_inside(self.raw, NftablesDataplane)

    def _wiring(self) -> Wiring:
        links = (
            f"link add eth0 netns {self.registry} type veth peer name eth0 netns {self.host}",
            f"link add eth1 netns {self.registry} type veth peer name eth0 netns {self.old}",
        )
        return Wiring(
            create=self.namespaces,
            links=links,
            nodes=(
                Node(
                    namespace=self.registry,
                    sysctls=_SYSCTLS,
                    commands=(
                        "link set lo up",
                        f"address add {ZOOKEEPER}/16 dev eth0",
                        "link set eth0 up",
                        "address add 172.31.0.1/30 dev eth1",
                        "link set eth1 up",
                    ),
                ),
                Node(
                    namespace=self.host,
                    sysctls=_SYSCTLS,
                    commands=(
                        "link set lo up",
                        f"address add {AGENT_PRIVATE}/16 dev eth0",
                        "link set eth0 up",
                        f"route add default via {ZOOKEEPER}",
                    ),
                ),
                Node(
                    namespace=self.old,
                    sysctls=_SYSCTLS,
                    commands=(
                        "link set lo up",
                        "address add 172.31.0.2/30 dev eth0",
                        "link set eth0 up",
                        "route add default via 172.31.0.1",
                    ),
                ),
                Node(namespace=self.raw, sysctls=_SYSCTLS, commands=("link set lo up",)),
            ),
        )
