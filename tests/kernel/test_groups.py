"""What members' packets do where ``member_ports`` says who reaches what: real ones, both families.

The host has two members: ``peer``, which is in group ``app``, and ``other``, which is in none.
"""

import contextlib
import socket
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from tests.kernel.test_packets import PEER, SETTINGS, UnderTest
from tests.support import netns
from tests.support.netns import PATIENCE, WAIT, Net, Server, alive, connect, reaches
from tests.support.talking import Echo, echoed, udp

from neti.model import Member
from neti.model.groups import GroupLine, Groups, MemberPort, MemberPorts
from neti.ruleset.enforce import PERMANENT, Enforcement
from neti.ruleset.plan import Plan, Rewrite
from neti.ruleset.policy import structure
from neti.ruleset.set_names import group_sets
from neti.ruleset.surroundings import Surroundings

pytestmark = pytest.mark.kernel

PEER6, OTHER, OTHER6 = netns.PEER6, netns.PEER_MOVED, netns.ADMIN6
MEMBER2 = Member(
    id="other",
    site="ec2",
    private=IPv4Address(OTHER),
    public=None,
    overlay=IPv4Address("192.168.0.10"),
    extended=True,
    more=(ip_address(OTHER6),),
)
PORTS: MemberPorts = (
    MemberPort(("app",), "tcp", 5432, 5432),
    MemberPort(("web", "members"), "tcp", 8000, 8100),
    MemberPort(("app",), "udp", 5300, 5310),
    MemberPort(("ops",)),
)
TRIAL = Enforcement(permanent=True, narrow=500)


@dataclass
class Grouped(UnderTest):
    """``in_force``: the policy that was confirmed last."""

    in_force: MemberPorts = None

    def resync(self) -> None:
        self.written()

    def written(self) -> Rewrite:
        """How much of the rules had to be."""
        around = Surroundings(
            uplinks=("eth0",), ssh_untracked=self.untracked, member_ports=self.in_force
        )
        self.members.take_changes()
        self.members.admit_by(self.in_force)
        rules = structure(self.settings, around)
        planned: Plan = self.reconciler.resync(rules, self.members.elements).planned
        return planned.structure

    def reload(self, ports: MemberPorts, in_force: MemberPorts) -> Rewrite:
        """As the agent does: with all that it knew."""
        before = self.members
        self.settings = replace(self.settings, member_ports=ports)
        self.members = type(before).empty(self.settings, before.host, frozenset())
        self.members.succeed(before, now=0.0, remember=True)
        self.members.elements.enforce(before.elements.enforcement)
        self.in_force = in_force
        return self.written()

    def groups(self, **lines: str) -> None:
        """Members of each group, by id."""
        made = {name: tuple(map(GroupLine, ids.split())) for name, ids in lines.items()}
        self.members.group_members(Groups(made, edition=1), now=0.0)
        self.commit()

    def trial(self) -> None:
        self.members.elements.enforce(TRIAL)
        self._inside(lambda: self.reconciler.begin_trial(self.members.elements))


@pytest.fixture(name="hosts")
def _hosts(net: Net) -> Callable[..., Grouped]:
    def hosts(ports: MemberPorts, in_force: MemberPorts, *, untracked: bool = False) -> Grouped:
        subprocess.run(
            ["ip", "-n", net.outside, "address", "add", f"{OTHER6}/64", "dev", "eth0", "nodad"],
            check=False,
            capture_output=True,
        )
        settings = replace(SETTINGS, ssh_whitelist=(), member_ports=ports)
        made = Grouped(net, settings, untracked, in_force)
        for member in (PEER, MEMBER2):
            made.joins(member)
        made.groups(app="peer", web="", ops="")
        return made

    return hosts


def comes(net: Net, port: int, source: str) -> bool:
    """Whether a connection to the host from this address, of either family, is let in."""
    to = netns.PRIVATE6 if ":" in source else netns.PRIVATE
    return reaches(net, net.outside, to, port, source)


def asks(net: Net, port: int, source: str, *, dead: bool = False) -> bool:
    with net.inside(net.outside, lambda: udp(0, source)) as sock:
        return echoed(sock, netns.PRIVATE, port, b"ask", WAIT if dead else PATIENCE)


def pings(net: Net, source: str) -> bool:
    to = netns.PRIVATE6 if ":" in source else netns.PRIVATE
    words = ["ip", "netns", "exec", net.outside, "ping", "-c", "1", "-W", "5", "-I", source, to]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


IN_FORCE = [(netns.PEER, OTHER), (PEER6, OTHER6)]


@pytest.mark.parametrize(("member", "other"), IN_FORCE, ids=["ipv4", "ipv6"])
def test_a_port_is_for_its_groups(
    net: Net, hosts: Callable[..., Grouped], member: str, other: str
) -> None:
    host = hosts(PORTS, PORTS)
    for port in (5432, 8050, 40001):
        Server(net, net.host, port)
    host.enforce()
    assert [comes(net, port, member) for port in (5432, 8050, 40001)] == [True, True, False]
    assert [comes(net, port, other) for port in (5432, 8050, 40001)] == [False, True, False]
    host.groups(app="", ops="other")  # a group that reaches everything
    assert [comes(net, port, member) for port in (5432, 8050, 40001)] == [False, True, False]
    assert [comes(net, port, other) for port in (5432, 8050, 40001)] == [True, True, True]


def test_udp_is_judged_by_ports_of_its_own(net: Net, hosts: Callable[..., Grouped]) -> None:
    host = hosts(PORTS, PORTS)
    for port in (5305, 5432):
        Echo(net, net.host, port)
    host.enforce()
    assert asks(net, 5305, netns.PEER)
    assert not asks(net, 5432, netns.PEER, dead=True)
    assert not asks(net, 5305, OTHER, dead=True)


@pytest.mark.parametrize(("member", "other"), IN_FORCE, ids=["ipv4", "ipv6"])
def test_a_member_is_never_worse_off_than_a_stranger(
    net: Net, hosts: Callable[..., Grouped], member: str, other: str
) -> None:
    """Who is in no group reaches open_ports, by trusted, and by ICMP; and verify_port."""
    host = hosts(PORTS, PORTS)
    for port in (80, 7077, 40001):
        Server(net, net.host, port)
    host.enforce()
    stranger = netns.STRANGER6 if ":" in other else netns.STRANGER
    assert [comes(net, port, stranger) for port in (80, 7077)] == [True, False]
    assert [comes(net, port, other) for port in (80, 7077, 40001)] == [True, True, False]
    assert pings(net, other)
    host.settings = replace(host.settings, trusted=(ip_network(other),))
    host.resync()
    assert comes(net, 40001, other)


def test_in_shadow_nobody_is_kept_out(net: Net, hosts: Callable[..., Grouped]) -> None:
    host = hosts(PORTS, PORTS)
    Server(net, net.host, 40001)
    assert comes(net, 40001, OTHER)
    host.enforce()
    assert not comes(net, 40001, OTHER)
    host.enforce(False)  # as neti relax does
    assert comes(net, 40001, OTHER)


@pytest.mark.parametrize(("member", "other"), IN_FORCE, ids=["ipv4", "ipv6"])
def test_what_the_file_takes_away_waits_for_a_trial(
    net: Net, hosts: Callable[..., Grouped], member: str, other: str
) -> None:
    """It is let in and recorded; on trial it is kept out; when the trial is over, let in again."""
    host = hosts(PORTS, None)
    for port in (80, 5432, 40001):
        Server(net, net.host, port)
    host.enforce()
    assert [comes(net, port, other) for port in (80, 5432, 40001)] == [True, True, True]
    assert comes(net, 5432, member)
    family = "6" if ":" in other else "4"
    told = _set(net, f"unasked{family}")
    assert f"{other} . tcp . 5432 counter packets 1" in told
    assert f"{other} . tcp . 40001 counter packets 1" in told
    assert member not in told
    assert " . 80 " not in told

    host.trial()
    assert [comes(net, port, other) for port in (80, 5432, 40001)] == [True, False, False]
    assert [comes(net, port, member) for port in (5432, 40001)] == [True, False]
    assert pings(net, other)

    host.members.elements.enforce(PERMANENT)
    _nft(net, "flush map inet neti narrowed")  # by the kernel's clock
    assert [comes(net, port, other) for port in (5432, 40001)] == [True, True]


def test_what_neither_policy_admits_is_a_strangers_packet(
    net: Net, hosts: Callable[..., Grouped]
) -> None:
    """What is in force goes on counting, group by group, and what the file adds counts at once."""
    before = (MemberPort(("app",), "tcp", 1, 6000), MemberPort(("web",), "tcp", 40001, 40001))
    host = hosts((MemberPort(("web",), "tcp", 9000, 9000),), before)
    for port in (5432, 9000, 40001):
        Server(net, net.host, port)
    host.groups(app="peer", web="other")
    host.enforce()
    assert [comes(net, port, netns.PEER) for port in (5432, 9000, 40001)] == [True, False, False]
    assert [comes(net, port, OTHER) for port in (5432, 9000, 40001)] == [False, True, True]
    host.trial()
    assert [comes(net, port, netns.PEER) for port in (5432, 9000, 40001)] == [False] * 3
    assert [comes(net, port, OTHER) for port in (5432, 9000, 40001)] == [False, True, False]


@pytest.mark.parametrize("member", [netns.PEER, PEER6])
def test_connections_outlive_a_group(net: Net, hosts: Callable[..., Grouped], member: str) -> None:
    """New ones do not."""
    host = hosts(PORTS, PORTS)
    Server(net, net.host, 5432)
    host.enforce()
    to = netns.PRIVATE6 if ":" in member else netns.PRIVATE
    with connect(net, net.outside, to, 5432, member) as held:
        assert alive(held)
        host.groups(app="")
        assert not comes(net, 5432, member)
        assert alive(held)
        host.groups(app="peer")
        assert comes(net, 5432, member)


@pytest.mark.parametrize("member", [netns.PEER, PEER6])
def test_a_connection_that_was_reset_begins_no_other(
    net: Net, hosts: Callable[..., Grouped], member: str
) -> None:
    """conntrack takes a SYN by the same two ports for a part of the former connection."""
    host = hosts(PORTS, PORTS)
    to = netns.PRIVATE6 if ":" in member else netns.PRIVATE
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    listener = net.inside(net.host, lambda: socket.create_server((to, 5432), family=family))
    host.enforce()
    with listener:
        port = begins(net, listener, to, member, 0)
        assert port
        assert begins(net, listener, to, member, port)
        host.groups(app="")
        assert not begins(net, listener, to, member, port)
        host.groups(app="peer")
        assert begins(net, listener, to, member, port)


def begins(net: Net, listener: socket.socket, to: str, source: str, port: int) -> int:
    """Whether a connection from just this port is let in: the port, or 0. The server resets it."""

    def made() -> socket.socket:
        sock = socket.socket(listener.family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((source, port))
        sock.settimeout(WAIT)
        return sock

    with net.inside(net.outside, made) as sock:
        try:
            sock.connect((to, 5432))
        except OSError:
            return 0
        served, _ = listener.accept()
        served.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        served.close()  # by a RST
        with contextlib.suppress(OSError):
            sock.recv(1)
        return int(sock.getsockname()[1])


def test_answers_to_this_hosts_own_calls_need_no_group(
    net: Net, hosts: Callable[..., Grouped]
) -> None:
    host = hosts(PORTS, PORTS)
    Server(net, net.outside, 6000)
    host.enforce()
    assert reaches(net, net.host, "192.168.0.10", 6000)
    assert reaches(net, net.host, OTHER6, 6000)


@pytest.mark.parametrize("in_force", [PORTS, None], ids=["in force", "on trial"])
def test_a_published_port_is_the_one_that_was_asked_for(
    net: Net, hosts: Callable[..., Grouped], in_force: MemberPorts
) -> None:
    """As it is for open_ports, which opens no other port of a container."""
    ports = (*(PORTS or ()), MemberPort(("app",), "tcp", 9100, 9100))
    host = hosts(ports, None if in_force is None else ports)
    _nft(
        net,
        "table ip docker { chain pre { type nat hook prerouting priority dstnat; "
        f"tcp dport {{ 80, 5432, 8443 }} ip daddr {netns.PRIVATE} dnat to {netns.CONTAINER}:9000; "
        "}; }",
    )
    for port in (80, 9000, 9100):
        Server(net, net.container, port)
    host.enforce()
    if in_force is None:
        host.trial()
    assert [comes(net, port, netns.PEER) for port in (80, 5432, 8443)] == [True, True, False]
    assert [comes(net, port, OTHER) for port in (80, 5432, 8443)] == [True, False, False]
    directly = [
        [reaches(net, net.outside, netns.CONTAINER, port, source) for port in (80, 9000, 9100)]
        for source in (netns.PEER, OTHER)
    ]
    assert directly == [[False, False, True], [False, False, False]]


def test_what_is_not_tracked_goes_by_the_port_in_the_packet(
    net: Net, hosts: Callable[..., Grouped]
) -> None:
    host = hosts(PORTS, PORTS)
    _nft(
        net,
        "table ip raw { chain pre { type filter hook prerouting priority raw; notrack; }; "
        "chain out { type filter hook output priority raw; notrack; }; }",
    )
    for port in (80, 5432, 40001):
        Server(net, net.host, port)
    host.enforce()
    assert [comes(net, port, netns.PEER) for port in (80, 5432, 40001)] == [True, True, False]
    assert [comes(net, port, OTHER) for port in (80, 5432, 40001)] == [True, False, False]
    host.reload(PORTS, None)
    assert [comes(net, port, OTHER) for port in (5432, 40001)] == [True, True]
    assert f"{OTHER} . tcp . 5432 counter" in _set(net, "unasked4")
    host.trial()
    assert [comes(net, port, OTHER) for port in (80, 5432, 40001)] == [True, False, False]


@pytest.mark.parametrize("other", [OTHER, OTHER6], ids=["ipv4", "ipv6"])
def test_a_protocol_without_ports_is_for_the_groups_that_reach_all(
    net: Net, hosts: Callable[..., Grouped], other: str
) -> None:
    """While it waits, it is recorded with port 0, whatever stands where a port would."""
    host = hosts(PORTS, None)
    host.enforce()
    for data in (b"\x01\x02\x03\x04", b"\x05\x06\x07\x08"):
        _send_gre(net, other, data)
    family = "6" if ":" in other else "4"
    assert f"{other} . gre . 0 counter packets 2" in _set(net, f"unasked{family}")
    host.groups(ops="other")
    _send_gre(net, other, b"more")
    assert f"{other} . gre . 0 counter packets 2" in _set(net, f"unasked{family}")


def _send_gre(net: Net, source: str, data: bytes) -> None:
    six = ":" in source
    family = socket.AF_INET6 if six else socket.AF_INET

    def send() -> None:
        with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_GRE) as sock:
            sock.bind((source, 0))
            sock.sendto(data, (netns.PRIVATE6 if six else netns.PRIVATE, 0))

    net.inside(net.outside, send)


def test_who_leaves_the_fleet_leaves_its_groups(net: Net, hosts: Callable[..., Grouped]) -> None:
    host = hosts(PORTS, PORTS)
    Server(net, net.host, 5432)
    host.enforce()
    assert comes(net, 5432, netns.PEER)
    host.leaves(PEER)
    four, six = group_sets("app")
    assert netns.PEER not in _set(net, four)
    assert PEER6 not in _set(net, six)
    assert not comes(net, 5432, netns.PEER)


def test_a_reload_that_names_a_new_group_opens_and_shuts_nothing_between(
    net: Net, hosts: Callable[..., Grouped]
) -> None:
    """The sets of the new group are full in the transaction that brings the rules."""
    host = hosts(PORTS, PORTS)
    Server(net, net.host, 5432)
    host.enforce()
    wider = (*(PORTS or ()), MemberPort(("late",), "tcp", 5432, 5432))
    host.groups(app="peer", late="other")
    assert not comes(net, 5432, OTHER)
    with connect(net, net.outside, netns.PRIVATE, 5432, netns.PEER) as held:
        done = host.reload(wider, wider)
        assert done is Rewrite.ALL
        assert comes(net, 5432, OTHER)
        assert alive(held)
        assert host.reload(PORTS, wider) is Rewrite.CHAINS
        assert comes(net, 5432, OTHER)
        host.trial()
        assert not comes(net, 5432, OTHER)
        assert alive(held)


def test_what_others_do_to_a_group_is_put_right(net: Net, hosts: Callable[..., Grouped]) -> None:
    host = hosts(PORTS, PORTS)
    Server(net, net.host, 5432)
    host.enforce()
    four, _ = group_sets("app")
    _nft(net, f"delete element inet neti {four} {{ {netns.PEER} }}")
    _nft(net, f"add element inet neti {four} {{ {OTHER} }}")
    assert comes(net, 5432, OTHER)
    assert host.written() is Rewrite.NOTHING
    assert [comes(net, 5432, source) for source in (netns.PEER, OTHER)] == [True, False]
    _nft(net, "delete table inet neti")
    host.resync()
    assert [comes(net, 5432, source) for source in (netns.PEER, OTHER)] == [True, False]


@pytest.mark.parametrize("in_force", [PORTS, None], ids=["in force", "on trial"])
def test_what_we_refuse_is_not_blamed_on_others(
    net: Net, hosts: Callable[..., Grouped], in_force: MemberPorts
) -> None:
    """First packets are counted where they come, where they arrive, and around the verdict."""
    host = hosts(PORTS, in_force)
    for port in (80, 5432, 40001):
        Server(net, net.host, port)
    counted = _counting(host)
    assert comes(net, 40001, OTHER)
    assert counted() == (1, 0, 1)  # asked, refused, arrived
    host.enforce()
    if in_force is None:
        host.trial()
    counted = _counting(host)
    for port, source in ((5432, netns.PEER), (80, OTHER), (5432, OTHER), (40001, OTHER)):
        comes(net, port, source)
    asked, refused, arrived = counted()
    assert refused >= 2
    assert arrived == asked - refused == 2


def _counting(host: Grouped) -> Callable[[], tuple[int, int, int]]:
    def now() -> tuple[int, int, int]:
        of = host._inside(host.reconciler.counters)
        return of["asked"], of["unadmitted"] - of["passed"], of["arrived"]

    before = now()
    return lambda: tuple(b - a for a, b in zip(before, now(), strict=True))  # type: ignore[return-value]


def test_without_member_ports_nothing_is_there(net: Net, hosts: Callable[..., Grouped]) -> None:
    host = hosts(None, PORTS)
    Server(net, net.host, 40001)
    host.enforce()
    assert comes(net, 40001, OTHER)
    assert "group_" not in _nft(net, "list table inet neti")
    assert host.reload((MemberPort(("members",)),), PORTS) is Rewrite.NOTHING


def _nft(net: Net, command: str) -> str:
    words = ["ip", "netns", "exec", net.host, "nft", command]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def _set(net: Net, name: str) -> str:
    return _nft(net, f"list set inet neti {name}")
