"""The ways in which a ZooKeeper ensemble can fail those who use it, and its return.

Each is a pair: bring it about, and end it. Nothing here looks at an agent.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from drills.drill import DrillError
from drills.field import Field
from drills.host import FieldHost
from drills.waiting import wait_for
from neti.lab import namespaces
from neti.lab.zookeeper import ZooKeeperServer

_TABLE = "inet weather"


@dataclass(frozen=True, slots=True)
class Weather:
    """``end`` returns when clients are served again. ``silent``: only one host is cut off, and
    others change the registry meanwhile. ``after``: what is left to be put right."""

    what: str
    begin: Callable[[], None]
    end: Callable[[], None]
    silent: bool = False
    outlasts_session: bool = False
    long: bool = False
    after: Callable[[], None] = lambda: None


def all_kinds(field: Field, host: FieldHost) -> list[Weather]:
    """For an ensemble, and the host that is cut off."""
    servers = field.servers
    return [
        Weather("ZooKeeper gone", lambda: _kill(servers), lambda: _start(servers), long=True),
        Weather("quorum lost", lambda: _kill(servers[1:]), lambda: _start(servers[1:])),
        Weather(
            "leader killed",
            lambda: _kill([_leader(servers)]),
            lambda: _elected(servers),
            after=lambda: _start(servers),
        ),
        Weather(
            "servers paused beyond the session's time-out",
            lambda: _pause(servers),
            lambda: _resume(servers),
            outlasts_session=True,
        ),
        Weather(
            "packets dropped silently",
            lambda: _cut_off(field, host),
            lambda: _let_through(field),
            silent=True,
            outlasts_session=True,
        ),
    ]


def _kill(servers: list[ZooKeeperServer]) -> None:
    for server in servers:
        server.kill()


def _start(servers: list[ZooKeeperServer]) -> None:
    """Those that do not run."""
    for server in servers:
        if server.pid is None:
            server.spawn()
    _wait(servers)


def _wait(servers: list[ZooKeeperServer]) -> None:
    for server in servers:
        server.wait()


def _pause(servers: list[ZooKeeperServer]) -> None:
    for server in servers:
        server.pause()


def _resume(servers: list[ZooKeeperServer]) -> None:
    for server in servers:
        server.resume()
    _wait(servers)


def _leader(servers: list[ZooKeeperServer]) -> ZooKeeperServer:
    for server in servers:
        if "Mode: leader" in server.four_letters("srvr"):
            return server
    raise DrillError("no server of the ensemble says that it is the leader")


def _elected(servers: list[ZooKeeperServer]) -> None:
    left = [server for server in servers if server.pid is not None]
    wait_for(
        lambda: bool(_leader(left)),
        f"the {len(left)} servers that are left have no leader",
        every=0.05,
    )
    _wait(left)


def _cut_off(field: Field, host: FieldHost) -> None:
    """Nothing of the host comes to any server any more, and nobody tells it."""
    ports = ", ".join(str(server.port) for server in field.servers)
    _nft(
        field.street,
        f"table {_TABLE} {{ chain c {{ type filter hook prerouting priority -400; "
        f"ip saddr {host.plan.private} tcp dport {{ {ports} }} drop; }}; }}",
    )


def _let_through(field: Field) -> None:
    _nft(field.street, f"delete table {_TABLE}")


def _nft(namespace: str, text: str) -> None:
    words = namespaces.command_inside(namespace, ["nft", text])
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DrillError(f"nft in {namespace}: {done.stderr.strip()}")
