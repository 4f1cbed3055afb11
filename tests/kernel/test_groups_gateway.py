"""Groups of members behind gateways, by packets: each is judged by its own overlay address.

A gateway passes on what it cannot read, so nothing of the gateway's is in what arrives; and what
the gateway sends itself is its own. See ``tests.support.gateway_net``.
"""

import pytest
from tests.support.gateway_net import EC2_1, EC2_2, OPEN, VPC_1, A, B, Fleet
from tests.support.netns import Server, reaches

from neti.model import Member
from neti.model.groups import MemberPort, MemberPorts

pytestmark = pytest.mark.kernel

PORTS: MemberPorts = (
    MemberPort(("app",), "tcp", 5432, 5432),
    MemberPort(("members",), "tcp", 80, 80),
)


def let_in(two: Fleet, host: Member, *members: Member) -> None:
    """To 5432 of this host; to its port 80 everybody."""
    held = two[host]
    held.ports, held.groups = PORTS, {"app": members}
    held.load()


def gets_in(two: Fleet, one: Member, other: Member, port: int) -> bool:
    return reaches(two[one].net, two[one].name, str(other.overlay), port)


@pytest.mark.parametrize("host", [B, OPEN, VPC_1], ids=["behind", "open", "gateway"])
def test_a_member_behind_a_gateway_is_judged_by_itself_and_not_by_the_gateway(
    two: Fleet, host: Member
) -> None:
    servers = {port: Server(two[host].net, two[host].name, port) for port in (80, 5432)}
    gateways = (EC2_1, EC2_2)
    let_in(two, host, A)
    assert gets_in(two, A, host, 5432)
    assert servers[5432].callers == [str(A.overlay)]
    assert [gets_in(two, one, host, 5432) for one in gateways] == [False, False]
    # The other way round: what the gateways may is nothing to the host behind them.
    let_in(two, host, *gateways)
    assert not gets_in(two, A, host, 5432)
    assert [gets_in(two, one, host, 5432) for one in gateways] == [True, True]
    assert [gets_in(two, one, host, 80) for one in (A, *gateways)] == [True, True, True]
    assert servers[5432].callers == [str(one.overlay) for one in (A, *gateways)]
