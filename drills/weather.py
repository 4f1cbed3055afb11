"""The ways in which a ZooKeeper ensemble can fail those who use it, and its return.

Each is a pair: bring it about, and end it. Nothing here looks at an agent.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.support.swarm import RawSession

from drills.drill import DrillError
from drills.field import Field
from drills.host import FieldHost
from drills.waiting import wait_for
from neti.errors import NetiError
from neti_lab import namespaces
from neti_lab.zookeeper import ZooKeeperServer

_TABLE = "inet weather"
_PATIENCE = 3.0  # seconds for one answer, on a busy machine
# Seconds. Servers that slept give each other up, and elect: ZooKeeper's time, and no agent's.
_ELECTION = 90.0


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
        Weather(
            "ZooKeeper gone", lambda: _kill(servers), lambda: _start(field, servers), long=True
        ),
        Weather("quorum lost", lambda: _kill(servers[1:]), lambda: _start(field, servers[1:])),
        Weather(
            "leader killed",
            lambda: _kill([_leader(servers)]),
            lambda: _elected(field),
            after=lambda: _start(field, servers),
        ),
        Weather(
            "servers paused beyond the session's time-out",
            lambda: _pause(servers),
            lambda: _resume(field),
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


def _start(field: Field, servers: list[ZooKeeperServer]) -> None:
    """Those that do not run."""
    for server in servers:
        if server.pid is None:
            server.spawn()
    _wait(field, servers)


def _wait(field: Field, servers: list[ZooKeeperServer]) -> None:
    """Until each has taken a write. What a server says of itself is not enough: one that slept goes
    on saying that it follows until it sees that its leader has given it up, and whoever connects in
    between gets no answer."""
    try:
        _writable(field, servers)
    except NetiError as error:
        # Seen once in hundreds of runs: after a minute and a half a server that slept takes no
        # write. That is its fault, for which operators start it again; what agents do about it is
        # looked at all the same.
        field.run.say(f"started again: {error}")
        for server in servers:
            if not field.inside(field.street, partial(_takes_writes, server)):
                server.kill()
                server.spawn()
        _writable(field, servers)


def _writable(field: Field, servers: list[ZooKeeperServer]) -> None:
    for server in servers:
        server.wait(_ELECTION)
    left = list(servers)

    def written() -> bool:
        # Asked one by one, and each until it has: not all of them again because one was slow.
        left[:] = [server for server in left if not _takes_writes(server)]
        return not left

    try:
        wait_for(
            lambda: field.inside(field.street, written),
            f"the {len(servers)} servers do not take writes",
            seconds=_ELECTION,
            every=0.05,
        )
    except DrillError as error:
        said = "; ".join(_said(server, left) for server in servers)
        raise DrillError(f"{error}; {said}") from error


def _said(server: ZooKeeperServer, left: list[ZooKeeperServer]) -> str:
    """What it says of itself, which its folder will not be there to tell."""
    mode = " ".join(server.four_letters("srvr").split()) or "no answer to srvr"
    what = "does not take them" if server in left else "takes them"
    return f"{server.hosts} {what}: {mode}: {server.last_words(12)}"


def _takes_writes(server: ZooKeeperServer) -> bool:
    try:
        session = RawSession(server.address, server.port, timeout_ms=4000, patience=_PATIENCE)
        session.send_create(f"/served-{server.port}-{session.id:x}", b"")
        done = session.outcome() == 0
        session.close()
    except OSError:  # no connection, no answer in time, or the end of one
        return False
    return done


def _pause(servers: list[ZooKeeperServer]) -> None:
    for server in servers:
        server.pause()


def _resume(field: Field) -> None:
    for server in field.servers:
        server.resume()
    _wait(field, field.servers)


def _leader(servers: list[ZooKeeperServer]) -> ZooKeeperServer:
    for server in servers:
        if "Mode: leader" in server.four_letters("srvr"):
            return server
    raise DrillError("no server of the ensemble says that it is the leader")


def _elected(field: Field) -> None:
    left = [server for server in field.servers if server.pid is not None]
    wait_for(
        lambda: bool(_leader(left)),
        f"the {len(left)} servers that are left have no leader",
        every=0.05,
    )
    _wait(field, left)


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
