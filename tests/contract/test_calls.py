"""Packets of strangers are judged and recorded in the simulation as by a kernel: who gets in, what
is recorded of them, and what a full record still takes.
"""

import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Protocol

import pytest
from simulation.clock import HostClock, Time
from simulation.gate import Gate
from simulation.kernel import ROOM, SimulatedKernel
from tests.support import netns
from tests.support.netns import Net, Server, network, reaches, require_root

from neti.dataplane import Dataplane
from neti.dataplane.nftables import NftablesDataplane
from neti.model.groups import MemberPort, MemberPorts
from neti.model.settings import Settings
from neti.ruleset.objects import (
    FAMILY_TABLE,
    SEEN_SIZE,
    AddElements,
    CreateTable,
    DeleteTable,
    Drop,
    Transaction,
)
from neti.ruleset.policy import structure
from neti.ruleset.set_names import group_sets
from neti.ruleset.surroundings import Surroundings

STRUCTURE = structure(
    Settings(path=Path("neti.yml")), Surroundings(uplinks=("eth0",), ssh_untracked=True)
)
STRANGER: Final = netns.STRANGER
INSIDE, OUTSIDE = netns.PEER, netns.PEER_MOVED  # members, one of them in group db
LISTENING, ANOTHER = 8080, 9090
FOR_DB = (MemberPort(("db",), "tcp", LISTENING, LISTENING),)
FOR_BOTH = (MemberPort(("app", "db"), "tcp", LISTENING, LISTENING), MemberPort(("app",)))
_LISTENS: Final = AddElements("tcp_listening", {str(LISTENING): ""})


class Subject(Protocol):
    @property
    def dataplane(self) -> Dataplane: ...

    def call(self, source: str, port: int) -> bool:
        """Whether this one's connection gets in."""

    def take_down(self) -> None:
        """As ``neti down`` does where nothing can be noted on disk."""

    def fill(self) -> None:
        """The room for ports where nobody listens, with others' calls."""


class Simulated:
    def __init__(self) -> None:
        self.dataplane = SimulatedKernel(HostClock(Time()), Gate())

    def call(self, source: str, port: int) -> bool:
        return self.dataplane.call(IPv4Address(source), port)

    def take_down(self) -> None:
        self.dataplane.remove()
        self.dataplane.mark_down()

    def fill(self) -> None:
        for number in range(ROOM):
            self.dataplane.call(IPv4Address(f"10.1.0.{number}"), 20_000 + number)


class Real:
    def __init__(self, net: Net) -> None:
        self._net = net
        self.dataplane = net.inside(net.host, NftablesDataplane)
        self._servers = [Server(net, net.host, port) for port in (LISTENING, ANOTHER)]

    def call(self, source: str, port: int) -> bool:
        return reaches(self._net, self._net.outside, netns.PRIVATE, port, source)

    def take_down(self) -> None:
        for step in (self.dataplane.remove, self.dataplane.mark_down):  # each by its own socket
            self._net.inside(self._net.host, step)

    def fill(self) -> None:
        others = (f"10.1.{n // 250}.{n % 250} . tcp . {20_000 + n % 100}" for n in range(SEEN_SIZE))
        text = f"add element {FAMILY_TABLE} seen4 {{ {', '.join(others)} }}\n"
        inside = ["ip", "netns", "exec", self._net.host, "nft", "-f", "-"]
        subprocess.run(inside, input=text, text=True, check=True)

    def close(self) -> None:
        for server in self._servers:
            server.close()
        self.dataplane.close()


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


def recorded(subject: Subject, source: str = STRANGER) -> set[tuple[int, bool]]:
    """At which ports, and whether somebody listens there."""
    seen = subject.dataplane.sightings()
    return {(one.port, one.heard) for one in seen if str(one.source) == source and one.packets}


def table(subject: Subject, *commands: AddElements | Drop) -> None:
    subject.dataplane.apply(Transaction((CreateTable(STRUCTURE), *commands)))


def test_without_a_table_everybody_gets_in_and_nobody_is_recorded(subject: Subject) -> None:
    assert subject.call(STRANGER, LISTENING)
    table(subject)
    subject.dataplane.apply(Transaction((DeleteTable(),)))
    assert subject.call(STRANGER, LISTENING)
    assert recorded(subject) == set()


def test_in_shadow_a_stranger_gets_in_and_is_recorded(subject: Subject) -> None:
    table(subject, _LISTENS)
    assert subject.call(STRANGER, LISTENING)
    assert subject.call(STRANGER, ANOTHER)
    assert recorded(subject) == {(LISTENING, True), (ANOTHER, False)}


@pytest.mark.parametrize("drop", [Drop(None), Drop(60_000)], ids=["enforced", "trial"])
def test_who_is_kept_out_is_recorded_too(subject: Subject, drop: Drop) -> None:
    table(subject, _LISTENS, drop)
    assert not subject.call(STRANGER, LISTENING)
    assert recorded(subject) == {(LISTENING, True)}


def test_a_full_room_leaves_the_other_one_alone(subject: Subject) -> None:
    """Users of a port where something listens are recorded after any scan of other ports."""
    table(subject, _LISTENS)
    subject.fill()
    assert subject.call(STRANGER, ANOTHER)
    assert subject.call(STRANGER, LISTENING)
    assert recorded(subject) == {(LISTENING, True)}
    assert subject.dataplane.counters().get("unseen")


def test_a_kernel_that_is_marked_as_down_judges_nobody(subject: Subject) -> None:
    table(subject, _LISTENS, Drop(None))
    subject.take_down()
    assert subject.call(STRANGER, LISTENING)


def table_of_members(
    subject: Subject, file: MemberPorts, *commands: Drop, in_force: MemberPorts = None
) -> None:
    settings = Settings(path=Path("neti.yml"), member_ports=file)
    around = Surroundings(uplinks=("eth0",), ssh_untracked=True, member_ports=in_force)
    held = [AddElements("peers4", {INSIDE: "", OUTSIDE: ""})]
    held.append(AddElements(group_sets("db")[0], {INSIDE: ""}))
    if in_force == FOR_BOTH:
        held.append(AddElements(group_sets("app")[0], {OUTSIDE: ""}))
    rules = CreateTable(structure(settings, around))
    subject.dataplane.apply(Transaction((rules, *held, _LISTENS, *commands)))


def unasked(subject: Subject) -> set[tuple[str, int]]:
    return {(str(one.source), one.port) for one in subject.dataplane.unasked() if one.packets}


def test_what_no_file_was_tried_of_is_let_in_and_recorded(subject: Subject) -> None:
    """Enforced, and the file takes away from what is in force: every port."""
    table_of_members(subject, FOR_DB, Drop(None))
    assert all(subject.call(one, LISTENING) for one in (INSIDE, OUTSIDE))
    assert subject.call(INSIDE, ANOTHER)
    assert unasked(subject) == {(OUTSIDE, LISTENING), (INSIDE, ANOTHER)}
    assert not subject.call(STRANGER, LISTENING)


def test_a_trial_keeps_out_whom_the_file_does_not_admit(subject: Subject) -> None:
    table_of_members(subject, FOR_DB, Drop(None), Drop(60_000, "narrowed"))
    assert subject.call(INSIDE, LISTENING)
    assert not subject.call(OUTSIDE, LISTENING)
    assert unasked(subject) == {(OUTSIDE, LISTENING)}


def test_what_is_in_force_goes_by_groups_and_ports(subject: Subject) -> None:
    """And whom it does not admit is judged as a stranger is."""
    table_of_members(subject, FOR_DB, Drop(None), in_force=FOR_DB)
    assert subject.call(INSIDE, LISTENING)
    assert not subject.call(OUTSIDE, LISTENING)
    assert not subject.call(INSIDE, ANOTHER)
    assert unasked(subject) == set()
    assert recorded(subject, OUTSIDE) == {(LISTENING, True)}


def test_a_group_that_reaches_everything_by_the_policy_in_force_still_does(
    subject: Subject,
) -> None:
    table_of_members(subject, FOR_DB, Drop(None), in_force=FOR_BOTH)
    assert subject.call(OUTSIDE, ANOTHER)
    assert not subject.call(INSIDE, ANOTHER)
    assert unasked(subject) == {(OUTSIDE, ANOTHER)}
