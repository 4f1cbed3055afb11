"""Groups of members that come through the tunnel: real packets.

Both hosts are 10.0.0.11, each in its own site: see ``tests.support.tunnel_net``.
"""

from collections.abc import Iterator

import pytest
from tests.support.netns import Server, alive, connect, reaches, require_root
from tests.support.tunnel_net import B, TunnelHost, TwoSites, two_sites

from neti.model import Encrypt, Road
from neti.model.groups import GroupLine, Groups, MemberPort, MemberPorts
from neti.ruleset.enforce import PERMANENT, REQUIRED, Enforcement

pytestmark = pytest.mark.kernel

PORTS: MemberPorts = (MemberPort(("app",), "tcp", 5432, 5432),)


@pytest.fixture
def sites() -> Iterator[TwoSites]:
    """B has member_ports in force; A, which is in group app there, goes through the tunnel."""
    require_root()
    with two_sites() as made:
        made.b.ports_in_force = PORTS
        made.b.configured(Encrypt.REQUIRE, member_ports=PORTS)
        made.b.enforce()
        made.both(Road.PREFERRED)
        group(made.b, made.b.member.id)
        yield made


def group(end: TunnelHost, *ids: str) -> None:
    lines = {"app": tuple(map(GroupLine, ids))}
    end.members.group_members(Groups(lines, edition=1), now=0.0)
    end.reconciler.commit(end.members.elements)


def comes(sites: TwoSites, port: int) -> bool:
    return reaches(sites.a.net, sites.a.net.host, B.overlay, port)


def test_a_port_is_for_its_groups_through_the_tunnel(sites: TwoSites) -> None:
    """By overlay addresses, whichever road the member takes, and after it has left the group."""
    for port in (5432, 40001):
        Server(sites.b.net, sites.b.net.host, port)
    assert [comes(sites, port) for port in (5432, 40001)] == [True, False]
    with connect(sites.a.net, sites.a.net.host, B.overlay, 5432) as held:
        group(sites.b)
        assert not comes(sites, 5432)
        assert alive(held)
    group(sites.b, sites.b.member.id)
    assert comes(sites, 5432)


def test_required_encryption_comes_before_groups(sites: TwoSites) -> None:
    """In the clear nothing of a member's group is let in, through the tunnel all of it is."""
    for port in (5432, 40001):
        Server(sites.b.net, sites.b.net.host, port)
    sites.b.members.elements.enforce(REQUIRED)
    sites.b.resync()
    assert [comes(sites, port) for port in (5432, 40001)] == [True, False]
    assert not reaches(sites.a.net, sites.a.net.host, B.public, 5432)
    sites.b.members.elements.enforce(PERMANENT)
    sites.b.resync()
    assert reaches(sites.a.net, sites.a.net.host, B.public, 5432)
    assert not reaches(sites.a.net, sites.a.net.host, B.public, 40001)


def test_a_trial_keeps_out_what_comes_through_the_tunnel(sites: TwoSites) -> None:
    for port in (5432, 40001):
        Server(sites.b.net, sites.b.net.host, port)
    sites.b.ports_in_force = None
    sites.b.resync()
    assert [comes(sites, port) for port in (5432, 40001)] == [True, True]
    sites.b.members.elements.enforce(Enforcement(permanent=True, narrow=500))
    sites.b.inside(lambda: sites.b.reconciler.begin_trial(sites.b.members.elements))
    assert [comes(sites, port) for port in (5432, 40001)] == [True, False]
