"""``neti lab serve``: one process that is every host's web service and metadata service.

It stays in the machine's own namespace; only its listening sockets are the hosts'. It must never
outlive its lab: when the plan is gone, it ends.
"""

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from neti_lab import LabError, namespaces, processes
from neti_lab.processes import Process
from neti_lab.state import LabState
from neti_lab.topology import METADATA_ADDRESS, WEB_PORT, LabHost, LabPlan
from neti_lab.web import serve_datagrams, serve_web

if TYPE_CHECKING:
    from neti_lab.metadata import MetadataService

_METADATA_PORT: Final = 80
_PLAN_CHECK_SECONDS: Final = 1.0
_READY_SECONDS: Final = 60.0
_ANY: Final = IPv4Address("0.0.0.0")


class Services:
    """What is being served, for whom. All of it runs in one event loop."""

    def __init__(self, state: LabState) -> None:
        self._state = state
        self._serving: dict[str, MetadataService] = {}
        self._servers: list[object] = []  # kept from being collected

    async def run(self) -> None:
        """Serve until the lab is gone."""
        await self._serve_all(self._state.plan())
        # Created last: that it takes connections says that everything is being served.
        control = await asyncio.start_unix_server(self._take_order, path=self._state.control)
        async with control:
            while (self._state.folder / "plan.json").exists():
                await asyncio.sleep(_PLAN_CHECK_SECONDS)

    async def _take_order(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Each line is an order to serve whatever the plan has by now; the answer is one line."""
        with contextlib.suppress(OSError):
            while await reader.readline():
                error = None
                try:
                    await self._serve_all(self._state.plan())
                except LabError as problem:
                    error = str(problem)
                writer.write(json.dumps({"error": error}).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def _serve_all(self, plan: LabPlan) -> None:
        for host in plan.hosts:
            if host.name not in self._serving:
                self._serving[host.name] = await self._serve(plan, host)
            self._serving[host.name].change(public=host.public)

    async def _serve(self, plan: LabPlan, host: LabHost) -> "MetadataService":
        metadata, web, datagrams = namespaces.call_inside(
            plan.namespace(host.name),
            lambda: (
                _listen(METADATA_ADDRESS, _METADATA_PORT),
                _listen(_ANY, WEB_PORT),
                _bound(_ANY, WEB_PORT, socket.SOCK_DGRAM),
            ),
        )
        self._servers.append(await serve_web(host.name, web))
        self._servers.append(await serve_datagrams(host.name, datagrams))
        return _metadata_service(plan, host, metadata)


def serve(state: LabState) -> None:
    """The whole life of the process."""
    own = processes.find(os.getpid())
    if own is not None:
        # Also recorded by who started it; but that one may have been killed before it could.
        processes.remember(own, state.record("serve"))
    asyncio.run(Services(state).run())


def start(state: LabState, command: Iterable[str]) -> Process:
    """Start the process in the background and return once it serves everybody."""
    process = processes.start(list(command), log=state.log("serve"), record=state.record("serve"))
    deadline = time.monotonic() + _READY_SECONDS
    while not _accepts(state.control):
        if not process.alive or time.monotonic() > deadline:
            reason = processes.last_line(state.log("serve"))
            raise LabError(f"the lab's services did not start: {reason}")
        time.sleep(0.02)
    return process


def refresh(state: LabState) -> None:
    """Have hosts served as the plan has them now: those that are new, and with what they have."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_READY_SECONDS)
        try:
            connection.connect(str(state.control))
            connection.sendall(b"serve\n")
            answer = json.loads(connection.makefile().readline())
        except (OSError, ValueError) as error:
            raise LabError(f"the lab's services do not answer: {error}") from error
    if answer["error"]:
        raise LabError(answer["error"])


def _metadata_service(plan: LabPlan, host: LabHost, listener: socket.socket) -> "MetadataService":
    """Start the host's metadata service on the socket; it has threads of its own."""
    from neti_lab.metadata import InstanceMetadata, MetadataService

    service = MetadataService(
        InstanceMetadata(
            instance_id=host.name,
            private=host.private,
            public=host.public,
            vpc_id=plan.site(host.site).vpc_id,
        ),
        listener,
    )
    service.start()
    return service


def _accepts(control: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(control))
        except OSError:
            return False
        return True


def _listen(address: IPv4Address, port: int) -> socket.socket:
    listener = _bound(address, port, socket.SOCK_STREAM)
    listener.listen(128)
    return listener


def _bound(address: IPv4Address, port: int, kind: socket.SocketKind) -> socket.socket:
    listener = socket.socket(socket.AF_INET, kind)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(address), port))
    except OSError as error:
        listener.close()
        raise LabError(f"cannot listen on {address}:{port}: {error.strerror}") from error
    return listener
