"""A trial of ``member_ports`` in a real kernel: it ends by itself, or is confirmed at once."""

from collections.abc import Callable
from ipaddress import ip_address

import pytest
from tests.kernel.test_groups import IN_FORCE, OTHER, PORTS, Grouped, _hosts, comes
from tests.support import netns
from tests.support.netns import Net, Server
from tests.support.talking import wait_until

from neti.errors import DataplaneError
from neti.model.groups import MemberPort, MemberPorts
from neti.ruleset.enforce import PERMANENT, Enforcement
from neti.ruleset.objects import KernelState
from neti.ruleset.policy import structure
from neti.ruleset.surroundings import Surroundings

pytestmark = pytest.mark.kernel
__all__ = ["_hosts"]  # the fixture

NARROWER: MemberPorts = (MemberPort(("ops",), "tcp", 5432, 5432),)


def read(host: Grouped) -> KernelState:
    state: KernelState = host._inside(host.reconciler.read)
    return state


def confirm(host: Grouped, ports: MemberPorts) -> None:
    around = Surroundings(uplinks=("eth0",), ssh_untracked=host.untracked, member_ports=ports)
    rules = structure(host.settings, around)
    host._inside(lambda: host.reconciler.confirm_trial(host.members.elements, rules))
    host.in_force = ports


@pytest.mark.parametrize(("member", "other"), IN_FORCE, ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("former", [None, PORTS], ids=["first", "another"])
def test_a_confirmation_shuts_at_once_and_for_good(
    net: Net, hosts: Callable[..., Grouped], member: str, other: str, former: MemberPorts
) -> None:
    """Not one packet of a member that is let in is lost on the way, and none more gets in."""
    host = hosts(PORTS if former is None else NARROWER, former)
    host.groups(app="peer", web="", ops="other" if former else "")
    Server(net, net.host, 5432)
    host.enforce()
    inside, outside = (member, other) if former is None else (other, member)
    assert [comes(net, 5432, one) for one in (inside, outside)] == [True, True]
    host.trial()
    assert [comes(net, 5432, one) for one in (inside, outside)] == [True, False]
    confirm(host, host.settings.member_ports)
    state = read(host)
    assert state.armed_for_good
    assert state.narrowed == {}
    assert "members_before" not in state.chain_names
    assert [comes(net, 5432, one) for one in (inside, outside)] == [True, False]
    host.members.elements.enforce(PERMANENT)
    assert host.written().value == "as is"


def test_the_kernel_ends_a_trial_and_then_it_cannot_be_confirmed(
    net: Net, hosts: Callable[..., Grouped]
) -> None:
    host = hosts(PORTS, None)
    Server(net, net.host, 5432)
    host.enforce()
    host.members.elements.enforce(Enforcement(permanent=True, narrow=2))
    host._inside(lambda: host.reconciler.begin_trial(host.members.elements))
    wait_until(lambda: not read(host).narrowed)
    assert comes(net, 5432, OTHER)
    with pytest.raises(DataplaneError):
        confirm(host, PORTS)
    state = read(host)
    assert "members_before" in state.chain_names
    assert state.armed_for_good
    assert comes(net, 5432, OTHER)


def test_what_members_used_is_read_back(net: Net, hosts: Callable[..., Grouped]) -> None:
    host = hosts(PORTS, None)
    Server(net, net.host, 5432)
    for source in (netns.PEER, OTHER, netns.ADMIN6, netns.STRANGER):
        comes(net, 5432, source)
    found = host._inside(host.reconciler.unasked)
    assert {(one.source, one.protocol, one.port) for one in found} == {
        (ip_address(one), "tcp", 5432) for one in (OTHER, netns.ADMIN6)
    }
    assert all(one.packets >= 1 for one in found)
    # What came is kept apart from the strangers'.
    strangers = host._inside(host.reconciler.sightings)
    assert {one.source for one in strangers if one.port == 5432} == {ip_address(netns.STRANGER)}
