"""Real agents see that a gateway is dead while its own agent and its session live, and go round it.

Two sites; the one of host b has two gateways.
"""

import contextlib
import shutil
from collections.abc import Iterator
from functools import partial

import pytest
from tests.kernel.test_gateway import DOCKER
from tests.kernel.test_gateway_agents import Hosts
from tests.kernel.test_two_agents import wait
from tests.support.gateway_net import EC2_1, VPC_1, VPC_2, A, B, networks
from tests.support.netns import PATIENCE, require_root
from tests.support.numbered import Numbered
from tests.support.talking import Echo
from tests.support.tunnel_device import require_wireguard
from tests.support.tunnel_net import ip, nft

from neti.model import Member

pytestmark = pytest.mark.kernel


@pytest.fixture(name="hosts", scope="module")
def _hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    require_root()
    require_wireguard()
    if shutil.which("nsenter") is None:
        pytest.skip("nsenter (util-linux) is missing")
    named = {"ec2": "ec2-1", "vpc": "vpc-1, vpc-2"}
    with networks(EC2_1, VPC_1, VPC_2, A, B) as net, contextlib.ExitStack() as programs:
        made = Hosts(net, tmp_path_factory.mktemp("probed"), programs, named, session=30)
        for one, peers in ((A, 3), (B, 2), (EC2_1, 3), (VPC_1, 2), (VPC_2, 2)):
            wait(partial(made.shaken, one, peers), 6 * PATIENCE)
        Echo(*made.at(B), 7300)
        yield made


def of_b(hosts: Hosts) -> Member:
    """The gateway by which b is reached, as b says."""
    return {"vpc-1": VPC_1, "vpc-2": VPC_2}[str(hosts[B].status()["gateway"])]


def silent(hosts: Hosts, one: Member, gateway: Member) -> bool:
    """As this host says."""
    said = f"{gateway.id} is named as a gateway and cannot be used: it does not answer"
    return said in hosts[one].status()["notes"]


def works(hosts: Hosts, one: Member, gateway: Member) -> bool:
    notes = hosts[one].status()["notes"]
    return not any(note.startswith(f"{gateway.id} is named") for note in notes)


def none_left(hosts: Hosts, one: Member) -> bool:
    return bool(hosts.problem(one, "gateways_gone"))


def test_a_dead_gateway_is_left_before_its_session_ends_and_nothing_is_lost_when_it_is_back(
    hosts: Hosts,
) -> None:
    """The registry is a file here, so a host whose link is cut stays registered."""
    dead = of_b(hosts)
    name = hosts.net.names[dead.id]
    ip(name, "link set eth0 down")
    for one in (B, EC2_1):
        wait(partial(silent, hosts, one, dead), 6 * PATIENCE)
    assert hosts[A].status()["members"]["lost"] == 0
    assert of_b(hosts) is not dead
    for one in (A, B, EC2_1):
        assert hosts.planned(one) == [], one.id
    wait(lambda: hosts.echoes(A, B))
    stream = Numbered(hosts.at(A), hosts.at(B), hosts[B].overlay, 7100)
    ip(name, "link set eth0 up", "route add default via 10.0.0.1")
    for one in (B, EC2_1):
        wait(partial(works, hosts, one, dead), 6 * PATIENCE)
    assert of_b(hosts) is dead
    assert stream.lost() == (0, 0)


def passed(hosts: Hosts, gateway: Member) -> str:
    """What its metrics say that it passed on for others."""
    lines = hosts[gateway].said("metrics").splitlines()
    return "; ".join(line for line in lines if line.startswith("neti_gateway_packets_total"))


def test_a_drained_gateway_stands_still_and_can_be_stopped_without_a_loss(hosts: Hosts) -> None:
    """As its operator goes about it."""
    drained = of_b(hosts)
    try:
        drained_and_stopped(hosts, drained)
    finally:
        hosts[A].neti("gateway", "undrain", drained.id)


def drained_and_stopped(hosts: Hosts, drained: Member) -> None:
    name = hosts.net.names[drained.id]
    stream = Numbered(hosts.at(A), hosts.at(B), hosts[B].overlay, 7101)
    assert f"{drained.id} is drained" in hosts[A].said("gateway", "drain", drained.id)

    def stands_still() -> bool:
        before, back = passed(hosts, drained), len(stream.back)
        wait(lambda: len(stream.back) > back + 20)
        return "outward" in before and passed(hosts, drained) == before

    wait(stands_still, 6 * PATIENCE)
    assert of_b(hosts) is not drained
    for one in (A, B, EC2_1, VPC_1, VPC_2):
        assert hosts.planned(one) == [], one.id
    ip(name, "link set eth0 down")
    back = len(stream.back)
    wait(lambda: len(stream.back) > back + 50)
    ip(name, "link set eth0 up", "route add default via 10.0.0.1")
    hosts[A].neti("gateway", "undrain", drained.id)
    for one in (B, EC2_1):
        wait(partial(works, hosts, one, drained), 6 * PATIENCE)
    wait(lambda: of_b(hosts) is drained, 6 * PATIENCE)
    assert stream.lost() == (0, 0)


def test_a_gateway_that_no_longer_passes_on_is_left_though_all_else_there_works(
    hosts: Hosts,
) -> None:
    """Another program's FORWARD chain. None left: both sides say so, and what goes inside the site
    goes on."""
    broken = of_b(hosts)
    nft(hosts.net.names[broken.id], DOCKER)
    for one in (B, EC2_1):
        wait(partial(silent, hosts, one, broken), 6 * PATIENCE)
    wait(lambda: hosts.echoes(A, B))
    other = of_b(hosts)
    nft(hosts.net.names[other.id], DOCKER)
    for one in (B, EC2_1):
        wait(partial(none_left, hosts, one), 6 * PATIENCE)
        assert "vpc-1 does not answer, vpc-2 does not answer" in hosts.problem(one, "gateways_gone")
        code, said = hosts[one].answered("check")
        assert code == 2
        assert "site vpc has no gateway that is known to work" in said
    Echo(*hosts.at(VPC_1), 7302)
    assert hosts.echoes_at(B, VPC_1, 7302)
    nft(hosts.net.names[broken.id], "delete table ip filter")
    wait(lambda: hosts.echoes(A, B), 6 * PATIENCE)
    wait(lambda: not hosts.problem(B, "gateways_gone"), 6 * PATIENCE)
    nft(hosts.net.names[other.id], "delete table ip filter")  # whatever test comes next
    for one in (B, EC2_1):
        wait(partial(works, hosts, one, other), 6 * PATIENCE)


CUT_OFF = (
    "add table ip cut; add chain ip cut out {{ type filter hook postrouting priority 400; }}; "
    "add rule ip cut out ip daddr {public} drop"
)


def test_a_gateway_that_reaches_no_other_site_is_left_by_its_own(hosts: Hosts) -> None:
    """In one direction only: its hosts send to it, what comes for them comes by another one."""
    broken = of_b(hosts)
    nft(hosts.net.names[broken.id], CUT_OFF.format(public=EC2_1.public))
    try:
        wait(partial(silent, hosts, B, broken), 6 * PATIENCE)
        assert of_b(hosts) is not broken
        wait(lambda: hosts.echoes(A, B))
        stream = Numbered(hosts.at(A), hosts.at(B), hosts[B].overlay, 7103)
    finally:
        nft(hosts.net.names[broken.id], "delete table ip cut")
    wait(partial(works, hosts, B, broken), 6 * PATIENCE)
    assert of_b(hosts) is broken
    assert stream.lost() == (0, 0)
