"""The simulation's machine is what a real one is: addresses, the overlay's route, who listens, and
whose tables judge input."""

import subprocess
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Protocol, TypeVar

import pytest
from simulation.gate import Gate
from simulation.machine import SERVED, SimulatedMachine, judging
from tests.support import netns
from tests.support.netns import Net, Server, network, require_root

from neti.errors import DataplaneError
from neti.host.machine import Machine, RealMachine
from neti.model.settings import Settings

T = TypeVar("T")
OVERLAY = IPv4Network("192.168.0.0/18")
HERE, MOVED = IPv4Address(netns.PRIVATE), IPv4Address("10.0.0.6")
NOT_HERE = IPv4Address("10.0.0.99")
VERIFY = Settings(path=Path("neti.yml")).verify_port


class Subject(Protocol):
    """``gateway``, ``mtu``: of its uplink. It serves a TCP port."""

    gateway: IPv4Address
    mtu: int

    def ask(self, question: Callable[[Machine], T]) -> T: ...

    def move(self) -> None:
        """MOVED in place of HERE."""

    def load(self, *, drops: bool) -> None:
        """Another program's table ``another`` with a chain at input."""

    def unload(self) -> None: ...

    def close(self) -> None: ...


class Simulated:
    gateway, mtu = IPv4Address("10.0.255.1"), 1500

    def __init__(self) -> None:
        self._machine = SimulatedMachine(Gate(), HERE)

    def ask(self, question: Callable[[Machine], T]) -> T:
        return question(self._machine)

    def move(self) -> None:
        self._machine.moves_to(MOVED)

    def load(self, *, drops: bool) -> None:
        self._machine.tables["another"] = judging("another", drops=drops)

    def unload(self) -> None:
        self._machine.tables.clear()

    def close(self) -> None: ...


class Real:
    gateway, mtu = IPv4Address("10.0.0.1"), 1400

    def __init__(self, net: Net) -> None:
        self._net = net
        self._server = Server(net, net.host, SERVED)

    def ask(self, question: Callable[[Machine], T]) -> T:
        """Of a new one each time: it would not look at all tables anew at once."""
        return self._net.inside(self._net.host, lambda: question(RealMachine()))

    def _do(self, *words: str) -> None:
        subprocess.run(["ip", "netns", "exec", self._net.host, *words], check=True)

    def move(self) -> None:
        self._do("ip", "address", "delete", f"{HERE}/24", "dev", "eth0")
        self._do("ip", "address", "add", f"{MOVED}/24", "dev", "eth0")

    def load(self, *, drops: bool) -> None:
        policy = "drop" if drops else "accept"
        self._do("nft", "add table inet another")
        hook = f"{{ type filter hook input priority 0; policy {policy}; }}"
        self._do("nft", f"add chain inet another input {hook}")

    def unload(self) -> None:
        self._do("nft", "delete table inet another")

    def close(self) -> None:
        self._server.close()


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


def own_route(subject: Subject) -> tuple[IPv4Address | None, int | None] | None:
    found = subject.ask(lambda machine: machine.network(OVERLAY)).own_route()
    return None if found is None else (found.source, found.mtu)


def set_route(subject: Subject, source: IPv4Address, mtu: int, *, anew: bool) -> None:
    subject.ask(lambda machine: machine.set_overlay_route(OVERLAY, source, mtu, anew=anew))


def test_its_address_its_uplink_and_the_way_out(subject: Subject) -> None:
    seen = subject.ask(lambda machine: machine.network(OVERLAY))
    assert HERE in seen.addresses()
    assert seen.uplinks(HERE) == ("eth0",)
    assert seen.mtu(("eth0",)) == subject.mtu
    assert subject.gateway in seen.gateways
    names = {one.name for one in subject.ask(lambda machine: machine.interfaces())}
    assert {"lo", "eth0"} <= names


def test_the_route_is_set_corrected_and_taken_away(subject: Subject) -> None:
    assert own_route(subject) is None
    set_route(subject, HERE, 1300, anew=True)
    assert own_route(subject) == (HERE, 1300)
    with pytest.raises(DataplaneError):
        set_route(subject, HERE, 1200, anew=True)
    set_route(subject, HERE, 1200, anew=False)
    assert own_route(subject) == (HERE, 1200)
    for _ in range(2):
        subject.ask(lambda machine: machine.remove_overlay_route(OVERLAY))
        assert own_route(subject) is None


def test_no_route_names_an_address_that_is_not_there(subject: Subject) -> None:
    with pytest.raises(DataplaneError):
        set_route(subject, NOT_HERE, 1300, anew=True)
    assert own_route(subject) is None


def test_the_route_goes_with_the_address_that_it_names(subject: Subject) -> None:
    set_route(subject, HERE, 1300, anew=True)
    subject.move()
    assert own_route(subject) is None
    set_route(subject, MOVED, 1300, anew=True)
    assert own_route(subject) == (MOVED, 1300)


def test_who_listens_is_seen(subject: Subject) -> None:
    found = subject.ask(lambda machine: machine.listeners())
    assert ("tcp", SERVED) in {(one.protocol, one.port) for one in found}
    assert ("tcp", SERVED + 1) not in {(one.protocol, one.port) for one in found}
    low, high = subject.ask(lambda machine: machine.local_ports())
    assert 1024 <= low < high < 65536
    assert not low <= SERVED <= high


@pytest.mark.parametrize("drops", [False, True])
def test_a_table_that_judges_input_is_named_for_as_long_as_it_is_there(
    subject: Subject, drops: bool
) -> None:
    """And one that drops what it does not know keeps members out for sure."""

    def told() -> tuple[tuple[str, ...], list[tuple[str, str, bool]]]:
        others = subject.ask(lambda machine: machine.others_judging_input())
        dropping, untold = subject.ask(lambda machine: machine.foreign_drops())
        assert untold == ()
        return others, [(one.table, one.hook, one.surely_drops_members(VERIFY)) for one in dropping]

    assert told() == ((), [])
    subject.load(drops=drops)
    expected = [("table inet another", "input", True)] if drops else []
    assert told() == (("table inet another",), expected)
    subject.unload()
    assert told() == ((), [])
