"""Tracked connections of the simulation are those of a kernel, as far as Neti has to do with them:
where a flow leads is decided by its first packet, and stays so until it is ended.
"""

import select
import socket
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Protocol

import pytest
from simulation.clock import HostClock, Time
from simulation.gate import Gate
from simulation.kernel import SimulatedConnections, SimulatedKernel
from tests.support import netns
from tests.support.netns import PATIENCE, WAIT, Net, network, require_root

from neti.agent.core import Connections
from neti.dataplane import Dataplane
from neti.dataplane.conntrack import Conntrack
from neti.dataplane.nftables import NftablesDataplane
from neti.host.machine import RealMachine
from neti.model import IPAddress
from neti.model.settings import Settings
from neti.ruleset.objects import (
    AddElements,
    CreateTable,
    DeleteElements,
    DeleteTable,
    Transaction,
)
from neti.ruleset.policy import structure
from neti.ruleset.surroundings import Surroundings

SUBNET = IPv4Network("192.168.0.0/18")
STRUCTURE = structure(
    Settings(path=Path("neti.yml")), Surroundings(uplinks=("eth0",), ssh_untracked=True)
)
OVERLAY = IPv4Address(netns.OVERLAY)
ANOTHER = IPv4Address("192.168.0.10")
PORT = 5000


class Subject(Protocol):
    @property
    def dataplane(self) -> Dataplane: ...

    @property
    def connections(self) -> Connections: ...

    def send(self, seconds: float) -> str | None:
        """A packet of this host's one flow to OVERLAY. Where it arrives within that time; None:
        nowhere."""


class Simulated:
    def __init__(self) -> None:
        gate = Gate()
        self.dataplane = SimulatedKernel(HostClock(Time()), gate)
        self.connections = SimulatedConnections(self.dataplane, gate)

    def send(self, seconds: float) -> str | None:
        if not self.connections.flows:
            self.connections.open(OVERLAY)
        return self.connections.flows[0].leads if self.connections.flows else None


class Real:
    """The outside has two addresses at which a packet may arrive. Another program's table has the
    kernel track and translate connections while Neti's is away, as Docker's does."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self.dataplane = net.inside(net.host, NftablesDataplane)
        self.connections = net.inside(net.host, Conntrack)
        here = IPv4Address(netns.PRIVATE)
        net.inside(net.host, lambda: RealMachine().set_overlay_route(SUBNET, here, 1300, anew=True))
        rule = "add rule inet another output ct state established accept"
        hook = "{ type filter hook output priority 0; policy accept; }"
        nat = "add chain inet another nat { type nat hook output priority 100; policy accept; }"
        for line in ("add table inet another", f"add chain inet another output {hook}", rule, nat):
            subprocess.run(["ip", "netns", "exec", net.host, "nft", line], check=True)
        self._sender = net.inside(net.host, lambda: _udp(netns.PRIVATE))
        self._there = {
            net.inside(net.outside, partial(_udp, address)): address
            for address in (netns.PEER, netns.PEER_MOVED)
        }

    def send(self, seconds: float) -> str | None:
        try:
            self._sender.sendto(b"packet", (str(OVERLAY), PORT))
        except OSError:
            return None  # refused at once
        ready, _, _ = select.select(list(self._there), [], [], seconds)
        for each in ready:
            each.recv(100)
        return self._there[ready[0]] if ready else None

    def close(self) -> None:
        for each in (self._sender, *self._there):
            each.close()


def _udp(address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, PORT))
    return made


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


def arrives(subject: Subject, *, at: str | None) -> None:
    assert subject.send(WAIT if at is None else PATIENCE) == at


def table(subject: Subject, leads: str | None) -> None:
    """Neti's, new: the overlay address leads there, or nowhere."""
    items = {} if leads is None else {str(OVERLAY): leads}
    subject.dataplane.apply(
        Transaction((CreateTable(STRUCTURE), AddElements("overlay", items)))
        if items
        else Transaction((CreateTable(STRUCTURE),))
    )


def moved(subject: Subject) -> None:
    subject.dataplane.apply(
        Transaction(
            (
                DeleteElements("overlay", (str(OVERLAY),)),
                AddElements("overlay", {str(OVERLAY): netns.PEER_MOVED}),
            )
        )
    )


def leads_to(address: str) -> Callable[[IPv4Address], IPv4Address | None]:
    return lambda overlay: IPv4Address(address) if overlay == OVERLAY else None


def test_the_first_packet_decides_where_a_flow_leads(subject: Subject) -> None:
    """Until it is ended; the next packet begins it anew."""
    table(subject, netns.PEER)
    arrives(subject, at=netns.PEER)
    moved(subject)
    arrives(subject, at=netns.PEER)
    assert subject.connections.end_connections_to([ANOTHER]) == 0
    arrives(subject, at=netns.PEER)
    assert subject.connections.end_connections_to([ANOTHER, OVERLAY]) == 1
    arrives(subject, at=netns.PEER_MOVED)


def test_a_flow_that_began_without_the_table_is_dead_until_it_is_ended(subject: Subject) -> None:
    arrives(subject, at=None)
    table(subject, netns.PEER)
    arrives(subject, at=None)
    assert subject.connections.end_stale(SUBNET, leads_to(netns.PEER)) == 1
    arrives(subject, at=netns.PEER)
    assert subject.connections.end_stale(SUBNET, leads_to(netns.PEER)) == 0


def test_what_leads_elsewhere_by_now_is_stale(subject: Subject) -> None:
    table(subject, netns.PEER)
    arrives(subject, at=netns.PEER)
    moved(subject)
    assert subject.connections.end_stale(SUBNET, leads_to(netns.PEER_MOVED)) == 1
    arrives(subject, at=netns.PEER_MOVED)


def test_a_flow_to_nobody_is_refused_and_not_tracked(subject: Subject) -> None:
    """Once somebody is there it arrives, and nothing has to be ended for that."""
    table(subject, None)
    arrives(subject, at=None)
    subject.dataplane.apply(Transaction((AddElements("overlay", {str(OVERLAY): netns.PEER}),)))
    arrives(subject, at=netns.PEER)


def test_a_flow_goes_on_without_the_table(subject: Subject) -> None:
    """The kernel goes on translating what it tracks, where anybody else translates."""
    table(subject, netns.PEER)
    arrives(subject, at=netns.PEER)
    subject.dataplane.apply(Transaction((DeleteTable(),)))
    arrives(subject, at=netns.PEER)
    assert subject.connections.end_stale(SUBNET, lambda _: None) == 1
    arrives(subject, at=None)


def test_who_has_connections(subject: Subject) -> None:
    """By the addresses with which a connection was opened, not by where it was led to."""
    table(subject, netns.PEER)
    asked: list[IPAddress] = [OVERLAY, IPv4Address(netns.PEER), ANOTHER]
    assert subject.connections.sources_with_connections(asked) == set()
    arrives(subject, at=netns.PEER)
    assert subject.connections.sources_with_connections(asked) == {OVERLAY}


@pytest.mark.parametrize("leads", [netns.PEER, None])
def test_what_may_go_on_is_spared(subject: Subject, leads: str | None) -> None:
    """Asked of each: where it was opened to, where its answers come from, and whether any came."""
    asked = []

    def goes_on(to: IPv4Address, answers: IPv4Address | None, answered: bool) -> bool:
        asked.append((to, answers, answered))
        return True

    if leads is not None:
        table(subject, leads)
    arrives(subject, at=leads)
    assert subject.connections.end_connections_to([OVERLAY], goes_on) == 0
    assert subject.connections.end_stale(SUBNET, lambda _: None, goes_on) == 0
    answers = IPv4Address(leads) if leads is not None else OVERLAY
    assert {(to, source) for to, source, _ in asked} == {(OVERLAY, answers)}
    assert subject.connections.end_connections_to([OVERLAY], lambda *_: False) == 1
