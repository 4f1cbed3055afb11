"""What packets leave in the shadow: real ones, both families, every way in."""

import socket
import subprocess
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest
from tests.support import netns
from tests.support.netns import Net, Server, alive, connect, reaches

from neti.agent.shadow_log import ShadowLog
from neti.clock import SteadyClock, SystemClock
from neti.dataplane.conntrack import Conntrack
from neti.dataplane.nftables import NftablesDataplane
from neti.dataplane.reconciler import Reconciler
from neti.host.listeners import listeners
from neti.model import Host, Member, Site, entry
from neti.model.settings import OpenPort, Settings
from neti.ruleset.desired import Membership
from neti.ruleset.enforce import PERMANENT
from neti.ruleset.policy import structure
from neti.ruleset.surroundings import Surroundings
from neti.stage.preview import View, rows
from neti.stage.shadow import Sighting

pytestmark = pytest.mark.kernel

SETTINGS = Settings(
    path=Path("neti.yml"),
    sites={"ec2": Site(name="ec2")},
    open_ports=(OpenPort(80, 80, "tcp"),),
)
HOST = Host(id="me", site="ec2", private=IPv4Address(netns.PRIVATE), public=None)
PEER = Member(
    id="peer",
    site="ec2",
    private=IPv4Address(netns.PEER),
    public=None,
    overlay=IPv4Address(netns.OVERLAY),
)
STRANGERS = [(netns.STRANGER, netns.PRIVATE), (netns.STRANGER6, netns.PRIVATE6)]


@dataclass
class UnderTest:
    """The host's kernel with the policy in it, and the shadow's log beside it."""

    net: Net
    folder: Path
    members: Membership = field(init=False)

    def __post_init__(self) -> None:
        self.members = Membership.empty(SETTINGS, HOST, frozenset())
        self.start()
        self.resync()

    def start(self) -> None:
        """As an agent's start: nothing is known but what kernel and disk hold."""

        def open_kernel() -> Reconciler:
            return Reconciler(NftablesDataplane(), Conntrack(), None)

        self.reconciler: Reconciler = self.net.inside(self.net.host, open_kernel)
        self.log = ShadowLog(
            self.folder, "this machine", self.reconciler, SteadyClock(SystemClock(), "boot")
        )

    def resync(self) -> None:
        self.members.take_changes()
        # A set that we do not know: the table is not as we would make it, so all of it anew.
        stranger = "add set inet neti former { type ipv4_addr; }"
        command = ["ip", "netns", "exec", self.net.host, "nft", stranger]
        subprocess.run(command, check=False, capture_output=True)
        self.reconciler.seen = None
        around = Surroundings(uplinks=("eth0",), ssh_untracked=True)
        self.reconciler.resync(structure(SETTINGS, around), self.members.elements)

    def commit(self) -> None:
        self.members.take_changes()
        self.reconciler.commit(self.members.elements)

    def enforce(self) -> None:
        self.members.elements.enforce(PERMANENT)
        around = Surroundings(uplinks=("eth0",), ssh_untracked=True)
        self.reconciler.resync(structure(SETTINGS, around), self.members.elements)

    def seen(self) -> dict[tuple[str, str, int], Sighting]:
        return {(str(s.source), s.protocol, s.port): s for s in self.reconciler.sightings()}

    def nft(self, text: str) -> None:
        command = ["ip", "netns", "exec", self.net.host, "nft", "-f", "-"]
        subprocess.run(command, input=text, text=True, check=True)


@pytest.fixture
def host(net: Net, tmp_path: Path) -> UnderTest:
    return UnderTest(net, tmp_path)


def knock(net: Net, to: str, port: int, source: str) -> None:
    """A connection attempt, whatever becomes of it."""
    try:
        connect(net, net.outside, to, port, source).close()
    except OSError:
        return


def datagram(net: Net, to: str, port: int, source: str) -> None:
    def send() -> None:
        family = socket.AF_INET6 if ":" in to else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((source, 0))
            sock.sendto(b"x", (to, port))

    net.inside(net.outside, send)


@pytest.mark.parametrize("enforced", [False, True])
@pytest.mark.parametrize(("source", "to"), STRANGERS)
def test_a_stranger_is_recorded(
    net: Net, host: UnderTest, source: str, to: str, enforced: bool
) -> None:
    """On a port with a listener and on one without, TCP and UDP, in every stage alike; what an
    open port lets in is not."""
    Server(net, net.host, 7000)
    Server(net, net.host, 80)
    if enforced:
        host.enforce()
    assert reaches(net, net.outside, to, 7000, source) is not enforced
    assert reaches(net, net.outside, to, 80, source)
    knock(net, to, 7001, source)
    datagram(net, to, 53, source)
    seen = host.seen()
    assert set(seen) == {(source, "tcp", 7000), (source, "tcp", 7001), (source, "udp", 53)}
    # Let in, a connection is recorded once: what follows is established. Refused, it knocks again.
    assert seen[source, "tcp", 7000].packets == 1 or enforced
    assert all(0 <= one.idle < 300 for one in seen.values())
    assert not any(one.forwarded or one.redirected for one in seen.values())


def test_the_preview_puts_the_port_with_a_listener_on_top(net: Net, host: UnderTest) -> None:
    """Joined with this very namespace's sockets."""
    Server(net, net.host, 7000)
    for port in (6999, 7000, 7001):
        for source, to in STRANGERS:
            knock(net, to, port, source)
    host.log.sample()
    now = host.log.now()
    listening = tuple(net.inside(net.host, listeners))
    found = rows(host.log.record, View(listening=listening, now=now))
    assert [(row.port[1], row.rank) for row in found] == [
        (7000, "used"),
        (6999, "missed"),
        (7001, "missed"),
    ]
    assert found[0].line == '{port: 7000, from: [10.0.0.66, "fd00:5::66"]}'


def test_peers_and_answers_are_not_recorded(net: Net, host: UnderTest) -> None:
    """Who is let in, and what this host asked for, leaves no shadow."""
    Server(net, net.host, 7000)
    Server(net, net.outside, 7002)
    host.members.fleet.appeared(entry.encode(PEER))
    host.members.fleet.lease_read(PEER.overlay, PEER.id)
    host.commit()
    assert reaches(net, net.outside, netns.PRIVATE, 7000, netns.PEER)
    assert reaches(net, net.host, netns.STRANGER, 7002)
    assert host.seen() == {}


def test_a_removed_peers_answers_leave_no_shadow(net: Net, host: UnderTest) -> None:
    """This host called it: what comes back is let in, and nobody used a port here."""
    Server(net, net.outside, 7002)
    host.members.fleet.appeared(entry.encode(PEER))
    host.members.fleet.lease_read(PEER.overlay, PEER.id)
    host.commit()
    with connect(net, net.host, netns.PEER, 7002) as connection:
        assert alive(connection)
        host.members.fleet.appeared(entry.encode_departure(PEER))
        host.members.fleet.vanished(entry.encode(PEER), now=0.0)
        host.commit()
        assert alive(connection)
    assert host.seen() == {}


PUBLISH = (
    "table ip docker { chain pre { type nat hook prerouting priority dstnat; "
    f"meta l4proto {{ tcp, udp }} th dport {{ 80, 8080 }} ip daddr {netns.PRIVATE} "
    f"dnat to {netns.CONTAINER}:9000; }}; }}"
)


@pytest.mark.parametrize("enforced", [False, True])
def test_a_published_port_is_recorded_as_the_one_that_was_asked_for(
    net: Net, host: UnderTest, enforced: bool
) -> None:
    """8080, which open_ports must name, and not the container's 9000; and that it is forwarded.
    What is open is let in by the same number, and leaves no shadow."""
    host.nft(PUBLISH)
    Server(net, net.container, 9000)
    if enforced:
        host.enforce()
    assert reaches(net, net.outside, netns.PRIVATE, 8080, netns.STRANGER) is not enforced
    assert reaches(net, net.outside, netns.PRIVATE, 80, netns.STRANGER)
    datagram(net, netns.PRIVATE, 8080, netns.STRANGER)
    seen = host.seen()
    assert set(seen) == {(netns.STRANGER, "tcp", 8080), (netns.STRANGER, "udp", 8080)}
    for one in seen.values():
        assert one.forwarded
        assert one.redirected == 9000


def test_a_containers_own_address_is_forwarded_too(net: Net, host: UnderTest) -> None:
    """Asked for without any translation: the port is the container's, and leads there."""
    Server(net, net.container, 9000)
    assert reaches(net, net.outside, netns.CONTAINER, 9000, netns.STRANGER)
    seen = host.seen()[netns.STRANGER, "tcp", 9000]
    assert seen.forwarded
    assert seen.redirected is None


@pytest.mark.parametrize(("source", "to"), STRANGERS)
def test_a_redirected_port_is_recorded_as_the_one_that_was_asked_for(
    net: Net, host: UnderTest, source: str, to: str
) -> None:
    """And where the socket is that answers, so that the preview finds it."""
    host.nft(
        "table inet redir { chain pre { type nat hook prerouting priority dstnat; "
        "tcp dport 443 redirect to :8443; }; }"
    )
    Server(net, net.host, 8443)
    assert reaches(net, net.outside, to, 443, source)
    seen = host.seen()
    assert {key: (one.redirected, one.forwarded) for key, one in seen.items()} == {
        (source, "tcp", 443): (8443, False)
    }


def test_a_full_set_blocks_nothing(net: Net, host: UnderTest) -> None:
    """16,384 records, and the next one: not recorded, let in all the same. One that is recorded
    already is still counted."""
    Server(net, net.host, 7000)
    host.nft(PUBLISH)
    Server(net, net.container, 9000)
    assert reaches(net, net.outside, netns.PRIVATE, 7000, netns.STRANGER)
    keys = [f"10.9.{n >> 8}.{n & 255} . tcp . 1" for n in range(16_383)]
    host.nft(f"add element inet neti seen4 {{ {', '.join(keys)} }}")
    assert reaches(net, net.outside, netns.PRIVATE, 7000, netns.ADMIN)
    assert reaches(net, net.outside, netns.PRIVATE, 8080, netns.STRANGER)
    assert reaches(net, net.outside, netns.PRIVATE, 7000, netns.STRANGER)
    seen = host.seen()
    assert len([one for one in seen.values() if not one.heard]) == 16_384
    assert seen[netns.STRANGER, "tcp", 8080].heard
    assert host.reconciler.counters()["unseen"] == 1
    assert (netns.ADMIN, "tcp", 7000) not in seen
    assert seen[netns.STRANGER, "tcp", 7000].packets == 2


@pytest.mark.parametrize(("source", "to"), STRANGERS)
def test_the_record_outlives_replacement_and_restart(
    net: Net, host: UnderTest, source: str, to: str
) -> None:
    """Looked at right before the sets are emptied; on disk when the agent stops."""
    for _ in range(3):
        knock(net, to, 7001, source)
    host.resync()
    assert host.seen() == {}
    for _ in range(5):
        knock(net, to, 7001, source)
    host.log.stop()
    knock(net, to, 7001, source)
    host.start()
    host.resync()
    host.log.sample()
    (use,) = host.log.record.ports.values()
    assert use.sources[ip_address(source).packed].packets == 9
