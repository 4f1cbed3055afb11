"""Who here calls members by their real addresses: what real connections leave in the kernel."""

import socket
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

import pytest
from tests.support import netns
from tests.support.control_groups import control_group, entering
from tests.support.netns import Net, Server, alive, connect, reaches

from neti.dataplane.conntrack import Conntrack
from neti.dataplane.nftables import NftablesDataplane
from neti.dataplane.reconciler import Reconciler
from neti.host.cgroups import ControlGroups, unit_of
from neti.model import Host, Member, Site, entry
from neti.model.settings import Settings
from neti.ruleset.desired import Membership
from neti.ruleset.policy import structure
from neti.ruleset.surroundings import Surroundings
from neti.stage.leftovers import Call

pytestmark = pytest.mark.kernel

EC2 = Site(name="ec2", private=(IPv4Network("10.0.0.0/24"),), ipv6=(IPv6Network("fd00:5::/64"),))
SETTINGS = Settings(path=Path("neti.yml"), sites={"ec2": EC2})
WITHOUT_RANGES = Settings(path=Path("neti.yml"), sites={"ec2": Site(name="ec2")})
HOST = Host(id="me", site="ec2", private=IPv4Address(netns.PRIVATE), public=None)
PEER = Member(
    id="peer",
    site="ec2",
    private=IPv4Address(netns.PEER),
    public=None,
    overlay=IPv4Address(netns.OVERLAY),
)
AS_ANOTHER = """
import os, socket, sys
os.setuid(1234)
for _ in range(3):
    one = socket.socket()
    one.connect((sys.argv[1], 7002))
    one.close()
"""


class UnderTest:
    """The host's kernel with the policy in it, and one member."""

    def __init__(self, net: Net, settings: Settings = SETTINGS, *, groups: bool = True) -> None:
        self.net = net
        self.members = Membership.empty(settings, HOST, frozenset())
        self.members.fleet.appeared(entry.encode(PEER))
        self.members.fleet.lease_read(PEER.overlay, PEER.id)
        self.members.take_changes()

        def open_kernel() -> Reconciler:
            return Reconciler(NftablesDataplane(), Conntrack(), None)

        self.reconciler = net.inside(net.host, open_kernel)
        around = Surroundings(
            uplinks=("eth0",), ssh_untracked=True, site="ec2", control_groups=groups
        )
        self.reconciler.resync(structure(settings, around), self.members.elements)

    def calls(self) -> dict[tuple[str, str, int], Call]:
        found = self.reconciler.leftovers()
        return {(str(call.dest), call.protocol, call.port): call for call in found}


@pytest.mark.parametrize("groups", [True, False])
def test_a_call_by_a_real_address_is_recorded_with_its_user(net: Net, groups: bool) -> None:
    host = UnderTest(net, groups=groups)
    Server(net, net.outside, 7002)
    command = [sys.executable, "-c", AS_ANOTHER, netns.PEER]
    entered = ["ip", "netns", "exec", net.host, *command]
    done = subprocess.run(entered, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    call = host.calls()[netns.PEER, "tcp", 7002]
    assert (call.user, call.packets, call.container) == (1234, 3, None)


def test_a_call_that_nobody_answers_is_recorded_too(net: Net) -> None:
    host = UnderTest(net)
    with pytest.raises(ConnectionRefusedError):
        reaches(net, net.host, netns.PEER, 7009)
    assert host.calls()[netns.PEER, "tcp", 7009].packets >= 1


def test_a_call_by_the_overlay_address_is_none(net: Net) -> None:
    """The same member, the same port."""
    host = UnderTest(net)
    Server(net, net.outside, 7002)
    assert reaches(net, net.host, netns.OVERLAY, 7002)
    assert host.calls() == {}


def test_a_connection_is_counted_once_however_long_it_lasts(net: Net) -> None:
    """Which is why it costs nothing on those that exist."""
    host = UnderTest(net)
    Server(net, net.outside, 7002)
    with connect(net, net.host, netns.PEER, 7002) as connection:
        assert all(alive(connection) for _ in range(20))
    assert host.calls()[netns.PEER, "tcp", 7002].packets == 1


def test_the_control_group_is_named_though_the_program_has_ended(net: Net) -> None:
    host = UnderTest(net)
    with control_group("caller.service") as group:

        def call() -> None:
            dial = f"import socket; socket.create_connection(('{netns.PEER}', 7002))"
            subprocess.run(
                [sys.executable, "-c", dial], check=True, timeout=30, preexec_fn=entering(group)
            )

        Server(net, net.outside, 7002)
        net.inside(net.host, call)
        number = host.calls()[netns.PEER, "tcp", 7002].group
        assert number == group.stat().st_ino
        path = ControlGroups().named({number})[number]
    assert unit_of(path) == "caller.service"


def test_a_container_is_known_by_its_address(net: Net) -> None:
    host = UnderTest(net)
    Server(net, net.outside, 7002)
    assert reaches(net, net.container, netns.PEER, 7002)
    call = host.calls()[netns.PEER, "tcp", 7002]
    assert str(call.container) == netns.CONTAINER
    assert call.user is None


def test_a_host_that_has_left_is_recorded_by_the_ranges(net: Net) -> None:
    """It is in no set any more."""
    host = UnderTest(net)
    Server(net, net.outside, 7002)
    host.members.fleet.appeared(entry.encode_departure(PEER))
    host.members.fleet.vanished(entry.encode(PEER), now=0.0)
    host.members.take_changes()
    host.reconciler.commit(host.members.elements)
    assert reaches(net, net.host, netns.STRANGER6, 7002)
    assert reaches(net, net.host, netns.PEER, 7002)
    assert set(host.calls()) == {(netns.PEER, "tcp", 7002), (netns.STRANGER6, "tcp", 7002)}


def test_members_are_known_without_ranges(net: Net) -> None:
    host = UnderTest(net, WITHOUT_RANGES)
    Server(net, net.outside, 7002)
    assert reaches(net, net.host, netns.PEER, 7002)
    reaches(net, net.host, netns.STRANGER, 7002)
    assert set(host.calls()) == {(netns.PEER, "tcp", 7002)}


def test_datagrams_are_recorded(net: Net) -> None:
    host = UnderTest(net)

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(3):
                sock.sendto(b"x", (netns.PEER, 8125))

    net.inside(net.host, send)
    assert host.calls()[netns.PEER, "udp", 8125].packets == 1


def test_what_stays_on_this_machine_is_none(net: Net) -> None:
    host = UnderTest(net)
    Server(net, net.host, 7003)
    assert reaches(net, net.host, netns.PRIVATE, 7003)
    assert host.calls() == {}
