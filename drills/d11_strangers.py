"""Strangers, peers and removed peers, both families, host and container: as the stage says."""

import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from drills import talk
from drills.drill import Row, Rows, Run
from drills.field import Field
from drills.fleet import Fleet
from drills.host import FieldHost
from drills.plan import (
    CONTAINER_PORT,
    OPEN_PORT,
    PEER,
    PEER6,
    PORT,
    PUBLISHED,
    STRANGER,
    STRANGER6,
)
from drills.waiting import wait_for
from neti.model import IPAddress, Member

TITLE = "strangers, IPv4 and IPv6, host and container: exactly as the stage says"

_SOURCES: Final[Mapping[str, tuple[IPAddress, IPAddress]]] = {
    "stranger": (STRANGER, STRANGER6),
    "peer": (PEER, PEER6),
}


@dataclass(frozen=True, slots=True)
class Door:
    """A way in, by one family."""

    name: str
    to: IPAddress
    port: int
    udp: bool = False


def run(drill: Run) -> Rows:
    with Field(drill, hosts=1) as field:
        host = field.hosts[0]
        field.serve(host.namespace)
        field.serve(host.namespace, port=OPEN_PORT)
        field.serve(host.container, port=CONTAINER_PORT)
        yield _reached("before Neti: stranger", field, "stranger", closed=True, open_=True)
        with _connections(field, "stranger") as strangers, _connections(field, "peer") as removed:
            field.start()
            fleet = Fleet(field.open_registry())
            yield from _shadow(field, fleet, strangers, removed)
            yield from _enforced(field, fleet, strangers)
            host.reload(reject_all=False)
            _until(host, "shadow")
            yield _reached("shadow again: stranger", field, "stranger", closed=True, open_=True)
            yield _alive("shadow again: connections from before Neti", strangers)


def _shadow(
    field: Field, fleet: Fleet, strangers: list[socket.socket], removed: list[socket.socket]
) -> Rows:
    host = field.hosts[0]
    yield _reached("shadow: stranger", field, "stranger", closed=True, open_=True)
    yield _alive("shadow: a stranger's connections from before Neti", strangers)
    _let_in(host, fleet)
    yield _reached("shadow: peer", field, "peer", closed=True, open_=True)
    with _connections(field, "peer") as later:
        _take_out(host, fleet)
        yield _alive("shadow: a removed peer's open connections", [*removed, *later])
        yield _reached("shadow: removed peer, anew", field, "peer", closed=True, open_=True)


def _enforced(field: Field, fleet: Fleet, strangers: list[socket.socket]) -> Rows:
    host = field.hosts[0]
    host.reload(reject_all=True)
    host.wait_until_enforced()
    yield _reached("enforced: stranger", field, "stranger", closed=False, open_=True)
    yield _alive("enforced: a stranger's connections from before Neti", strangers)
    _let_in(host, fleet)
    yield _reached("enforced: peer", field, "peer", closed=True, open_=True)
    with _connections(field, "peer") as open_ones:
        _take_out(host, fleet)
        alive = _count_alive(open_ones)
        yield Row(
            "enforced: a removed peer's open connections that go on",
            f"{alive} of {len(open_ones)}",
            alive == 0,
        )
    yield _reached("enforced: removed peer, anew", field, "peer", closed=False, open_=True)


def _doors(host: FieldHost, *, version: int) -> list[Door]:
    """Those that are in ``open_ports`` and those that are not."""
    to: IPAddress = host.plan.private if version == 4 else host.plan.private6
    return [
        Door("host, TCP", to, PORT),
        Door("host, UDP", to, PORT, udp=True),
        Door("published, TCP", to, PUBLISHED),
        Door("open port", to, OPEN_PORT),
    ]


def _reached(what: str, field: Field, who: str, *, closed: bool, open_: bool) -> Row:
    """Try every door; ``closed``, ``open_``: whether those that are not, and are, in open_ports
    should let them in."""
    host = field.hosts[0]
    ways = [
        (f"IPv{version} {door.name}", door, source)
        for source, version in zip(_SOURCES[who], (4, 6), strict=True)
        for door in _doors(host, version=version)
    ]

    def try_it(way: tuple[str, Door, IPAddress]) -> bool:
        _, door, source = way
        ask = talk.udp_reaches if door.udp else talk.reaches
        return ask(field.street, door.to, door.port, source=source)

    with ThreadPoolExecutor(len(ways)) as pool:
        got_in = list(pool.map(try_it, ways))
    wrong = [
        f"{what} {'' if got else 'not '}reached"
        for (what, door, _), got in zip(ways, got_in, strict=True)
        if got is not (open_ if door.port == OPEN_PORT else closed)
    ]
    figure = f"{sum(got_in)} of {len(ways)} ways"
    return Row(f"{what} gets in", "; ".join([figure, *wrong]), not wrong)


@contextmanager
def _connections(field: Field, who: str) -> Iterator[list[socket.socket]]:
    """One open connection through each TCP door that is not in open_ports."""
    with ExitStack() as stack:
        made = []
        for source, version in zip(_SOURCES[who], (4, 6), strict=True):
            for door in _doors(field.hosts[0], version=version):
                if not door.udp and door.port != OPEN_PORT:
                    opened = talk.connection(field.street, door.to, door.port, source=source)
                    made.append(stack.enter_context(opened))
        yield made


def _alive(what: str, connections: list[socket.socket]) -> Row:
    alive = _count_alive(connections)
    return Row(what, f"{alive} of {len(connections)} alive", alive == len(connections) > 0)


def _count_alive(connections: list[socket.socket]) -> int:
    with ThreadPoolExecutor(len(connections)) as pool:
        return sum(pool.map(talk.alive, connections))


def _let_in(host: FieldHost, fleet: Fleet) -> None:
    fleet.join(Member(id="p", site="ec2", private=PEER, public=None, overlay=PEER, more=(PEER6,)))
    wait_for(
        lambda: str(PEER6) in host.sets()["peers6"] and str(PEER) in host.sets()["peers4"],
        f"the peer is not let in on {host.name}",
    )


def _take_out(host: FieldHost, fleet: Fleet) -> None:
    fleet.leave("p")
    wait_for(
        lambda: not {str(PEER), str(PEER6)} & {*host.sets()["peers4"], *host.sets()["peers6"]},
        f"the peer that left is still let in on {host.name}",
    )


def _until(host: FieldHost, stage: str) -> None:
    wait_for(lambda: host.status()["stage"] == stage, f"{host.name} is not in stage {stage}")
