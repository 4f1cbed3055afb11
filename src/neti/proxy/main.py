"""Runs the proxy until SIGTERM: listener, health checks, metrics, and a graceful stop."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable
from pathlib import Path

from neti import log
from neti.config import DEFAULT_PATH, load
from neti.control import client
from neti.control.client import AgentSilent, AgentStarting, AgentUnreachable
from neti.errors import ConfigError, NetiError
from neti.host.systemd import notify
from neti.proxy import metrics
from neti.proxy.relay import Relay
from neti.proxy.servers import Servers
from neti.proxy.settings import Endpoint, ProxySettings, raise_file_limit
from neti.registry.zookeeper import tls

_STATUS_SECONDS = 30.0


def run(settings: ProxySettings) -> None:
    """Raises NetiError when it cannot start."""
    raise_file_limit(settings.max_connections)
    if settings.files is not None:
        tls.context(settings.files)  # so that errors in the files are reported now
    asyncio.run(_run(settings))


async def _run(settings: ProxySettings) -> None:
    servers = Servers(settings)
    relay = Relay(settings, servers)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await _bound(settings.listen, relay.listen())
    if settings.metrics is not None:
        await _bound(settings.metrics, metrics.serve(settings.metrics, relay, servers))
    log.info("listening", at=settings.listen, servers=" ".join(str(s.place) for s in servers.all))
    notify("READY=1")
    watching = asyncio.create_task(servers.watch())
    telling = asyncio.create_task(_tell(relay, servers))
    await stop.wait()
    notify("STOPPING=1")
    relay.stop_listening()
    log.info("stopping", connections=relay.connections, seconds=settings.drain)
    draining = asyncio.create_task(relay.drain())
    stop.clear()
    impatient = asyncio.create_task(stop.wait())  # a second signal stops it at once
    await asyncio.wait([draining, impatient], return_when=asyncio.FIRST_COMPLETED)
    for task in (watching, telling, impatient, draining):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    log.info("stopped")


async def _tell(relay: Relay, servers: Servers) -> None:
    while True:
        up = sum(server.up for server in servers.all)
        notify(f"STATUS={relay.connections} connections; {up} of {len(servers.all)} servers up")
        await asyncio.sleep(_STATUS_SECONDS)


async def _bound(place: Endpoint, binding: Awaitable[object]) -> None:
    try:
        await binding
    except OSError as error:
        raise NetiError(
            f"cannot listen on {place} ({error.strerror}). Is it an address of this host, and is "
            "the port free?"
        ) from error


def refuse_beside_agent(config: Path | None) -> None:
    """Refuses to run beside an agent: proxies must stay reachable when Neti fails."""
    path = config if config is not None else DEFAULT_PATH
    folder = Path("/var/lib/neti")
    # Whether the file is valid and readable does not matter to this command.
    with contextlib.suppress(ConfigError, OSError):
        if path.exists():
            folder = load(path).table_files_path
    try:
        client.call(folder, "status")
    except (AgentStarting, AgentSilent):
        pass  # there is one
    except AgentUnreachable:
        return
    raise NetiError(
        f"an agent runs on this host ({folder / 'agent.sock'} answers). A proxy must be "
        "reachable even if Neti's rules are wrong, so no agent may run beside it. Stop one of "
        "the two"
    )
