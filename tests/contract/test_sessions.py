"""Operators who are in by SSH, in the simulation as by a kernel's table of connections."""

import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Protocol

import pytest
from simulation.people import session_from
from tests.support import netns
from tests.support.netns import PATIENCE, Net, Server, connect, network, require_root

from neti.host.ssh_session import open_sessions
from neti.stage.way_in import OperatorSession

PORT = 22
ADMIN, STRANGER = netns.ADMIN, netns.STRANGER


class Subject(Protocol):
    def log_in(self, client: str) -> None: ...

    def log_out(self, client: str) -> None: ...

    def sessions(self) -> list[OperatorSession]: ...


class Simulated:
    def __init__(self) -> None:
        self._held: dict[str, OperatorSession] = {}

    def log_in(self, client: str) -> None:
        self._held[client] = session_from(ip_address(client), ip_address(netns.PRIVATE))

    def log_out(self, client: str) -> None:
        del self._held[client]

    def sessions(self) -> list[OperatorSession]:
        return list(self._held.values())


class Real:
    """A connection to the port is all that it takes: nobody looks at processes."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self._server = Server(net, net.host, PORT, netns.PRIVATE)
        self._held: dict[str, socket.socket] = {}

    def log_in(self, client: str) -> None:
        self._held[client] = connect(self._net, self._net.outside, netns.PRIVATE, PORT, client)
        self._until(client, there=True)

    def log_out(self, client: str) -> None:
        self._held.pop(client).close()
        self._until(client, there=False)

    def sessions(self) -> list[OperatorSession]:
        return self._net.inside(self._net.host, lambda: open_sessions({PORT}))

    def close(self) -> None:
        for each in self._held.values():
            each.close()
        self._server.close()

    def _until(self, client: str, *, there: bool) -> None:
        deadline = time.monotonic() + PATIENCE
        while (client in clients(self)) is not there:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.kernel)])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "simulated":
        yield Simulated()
        return
    require_root()
    with network() as net:
        real = Real(net)
        yield real
        real.close()


def clients(subject: Subject) -> set[str]:
    return {str(one.client) for one in subject.sessions()}


def test_nobody_is_in(subject: Subject) -> None:
    assert subject.sessions() == []


def test_who_is_in_is_seen_until_he_has_gone(subject: Subject) -> None:
    subject.log_in(ADMIN)
    subject.log_in(STRANGER)
    assert clients(subject) == {ADMIN, STRANGER}
    subject.log_out(ADMIN)
    assert clients(subject) == {STRANGER}


def test_what_is_known_of_a_session(subject: Subject) -> None:
    """Its both ends, for sure, as a command sends it to an agent."""
    subject.log_in(ADMIN)
    (session,) = subject.sessions()
    assert (session.client, session.local) == (ip_address(ADMIN), ip_address(netns.PRIVATE))
    assert session.local_port == PORT
    assert session.client_port > 0
    assert (session.found, session.sure) == ("connection", True)
    assert OperatorSession.from_document(session.document()) == session
