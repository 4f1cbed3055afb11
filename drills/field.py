"""Where a drill happens: namespaces, real agents, a registry; and the end of them all.

On leaving, whatever is not Neti's on each host is compared with what it was before. Must never do:
touch the machine's own network, or end a process that it did not start.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

from tests.support.agent_process import AgentProcess

from drills import certified, leftovers, others, plan, talk, traffic
from drills.drill import Run
from drills.host import FieldHost
from drills.plan import HostPlan
from drills.waiting import wait_for
from neti import config
from neti.errors import NetiError
from neti.registry import Registry, opening
from neti_lab import namespaces
from neti_lab.zookeeper import Peer, ServerTLS, ZooKeeperServer

T = TypeVar("T")
# "closed": one ZooKeeper with TLS, laid out with rights.
RegistryKind = Literal["embedded", "zookeeper", "ensemble", "closed"]

_ZOOKEEPER_PORT: Final = 2181
_TICK_MS: Final = 200  # sessions may be as short as two ticks


class Field:
    """As a context manager it is built, and taken down again whatever happens within."""

    def __init__(
        self,
        run: Run,
        *,
        hosts: int,
        registry: RegistryKind = "embedded",
        others: str = plan.OTHERS,
        further: Sequence[str] = (),
        across: bool = False,
    ) -> None:
        """``others``: rules that each host has beside Neti's; ``further``: ids that have a
        certificate and no agent here; ``across``: every second host is in the site vpc."""
        self.run = run
        self._others = others
        self.registry_kind = registry
        self.prefix = leftovers.new_prefix()
        self.street = f"{self.prefix}{plan.STREET}"
        self.hosts: list[FieldHost] = []
        self.servers: list[ZooKeeperServer] = []
        self.folder = self.certificates = Path()
        self._plans = [
            HostPlan(number=number, site="ec2" if number % 2 or not across else "vpc")
            for number in range(1, hosts + 1)
        ]
        self._further = further
        self._stack = contextlib.ExitStack()
        self._before: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.folder = self.run.folder()
            self.certificates = self.folder / "certificates"
            wiring = plan.wiring(self.prefix, self._plans, others=self._others)
            stack.callback(leftovers.end, wiring.create)
            namespaces.build(wiring)
            for each in self._plans:
                namespaces.call_inside(f"{self.prefix}{each.name}", _forward6)
            self._start_registry(stack)
            self.hosts = [self._host(each) for each in self._plans]
            self._wait_until_wired()
            self._before = {host.name: others.look_settled(host.namespace) for host in self.hosts}
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.compare()
        finally:
            self._stack.close()

    def compare(self) -> None:
        """Whether others' rules, routes and sysctls are what they were, on every host."""
        for host in self.hosts:
            self.run.compared.hosts += 1
            found = others.differences(self._before[host.name], others.look(host.namespace))
            self.run.compared.differences += [f"{host.name}: {what}" for what in found]

    # --- the registry ---

    def open_registry(self, *, session_seconds: float = 30.0) -> Registry:
        """A registry of this field as a further host finds it; closed with the field."""
        settings = config.load(self.hosts[0].config)
        changed = replace(settings, session_seconds=session_seconds)

        def connect() -> Registry:
            opened = opening.open_registry(changed, "ec2")
            opened.leases()
            return opened

        opened = namespaces.call_inside(self.street, connect)
        self._stack.callback(_closed, opened)
        return opened

    def _start_registry(self, stack: contextlib.ExitStack) -> None:
        if self.registry_kind == "embedded":
            return
        count = 3 if self.registry_kind == "ensemble" else 1
        security = None
        if self.registry_kind == "closed":
            ids = (*(each.name for each in self._plans), *self._further)
            certified.make_for(self.certificates, ids)
            security = ServerTLS.of(self.certificates, certified.SERVER)
        peers = [Peer(str(plan.STREET_ADDRESS), 2800 + n, 2900 + n) for n in range(count)]
        for number in range(count):
            server = ZooKeeperServer(
                address=str(plan.STREET_ADDRESS),
                port=_ZOOKEEPER_PORT + number,
                namespace=self.street,
                tick_ms=_TICK_MS,
                heap_mb=128,
                ensemble=peers if count > 1 else (),
                number=number + 1,
                security=security,
            )
            stack.callback(server.close)
            self.servers.append(server)
        for server in self.servers:
            server.spawn()
        for server in self.servers:
            server.wait()

    def registry_keys(self, stem: str) -> dict[str, Any]:
        """How a configuration finds the registry; ``stem``: of the certificate, if there are."""
        if self.registry_kind == "embedded":
            return {"registry": f"embedded:{self.folder / 'registry.db'}"}
        servers = [server.hosts for server in self.servers]
        sites = {each.site for each in self._plans}
        keys: dict[str, Any] = {"zk_hosts": dict.fromkeys(sorted(sites), servers)}
        if self.registry_kind == "closed":
            keys["registry_tls"] = certified.keys(self.certificates, stem)
        return keys

    def _host(self, each: HostPlan) -> FieldHost:
        folder = self.folder / each.name
        (folder / "state").mkdir(parents=True, mode=0o700)
        namespace = f"{self.prefix}{each.name}"
        agent = AgentProcess(
            namespace, config=folder / "neti.yml", state=folder / "state", log=folder / "log"
        )
        keys = self.registry_keys(f"host-{each.name}")
        document = plan.configuration(each, state=str(agent.state), registry=keys)
        return FieldHost(each, agent, document)

    def _wait_until_wired(self) -> None:
        """A new link takes its time; whoever measures shall not measure that."""
        street = (plan.STREET_ADDRESS, plan.STRANGER6)
        for host in self.hosts:
            peers = [each.plan.private for each in self.hosts if each is not host]
            for namespace, targets in (
                (host.namespace, (*street, *peers, plan.CONTAINER, plan.CONTAINER6)),
                (host.container, street),
            ):
                for target in targets:
                    wait_for(
                        lambda here=namespace, there=target: talk.answers(here, there),  # type: ignore[misc]  # a default in a lambda
                        f"{target} is not reached from {namespace} in the new network",
                    )

    # --- what happens here ---

    def start(self, *hosts: FieldHost, around: Sequence[str] = ()) -> None:
        """Start these hosts' agents (or all), until each reaches all the others. ``around``: a
        command that runs each agent's command line."""
        starting = hosts or tuple(self.hosts)
        for host in starting:
            host.agent.start(around)
        for host in starting:
            host.wait_until_registered()
        running = [host for host in self.hosts if host.agent.running]
        overlays = {str(host.overlay) for host in running}
        for host in running:
            wait_for(
                lambda host=host: overlays <= host.sets()["overlay"].keys(),  # type: ignore[misc]  # a default in a lambda
                f"the kernel of {host.name} does not hold {', '.join(sorted(overlays))}",
            )

    def serve(self, *namespaces_: str, port: int = plan.PORT) -> None:
        """An echo server in each of these namespaces, until the field is left."""
        for namespace in namespaces_:
            self._stack.enter_context(traffic.serving(namespace, port))

    # Continuous traffic; see there.
    probing = staticmethod(traffic.probing)

    def inside(self, namespace: str, function: Callable[[], T]) -> T:
        return namespaces.call_inside(namespace, function)


def _forward6() -> None:
    """As on a host with containers. IPv4's came with the namespace; /proc shows each thread its
    own."""
    Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")


def _closed(registry: Registry) -> None:
    with contextlib.suppress(NetiError, OSError):
        registry.close()
