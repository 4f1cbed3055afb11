"""Link, rule and route that lead to the WireGuard device, on a real kernel.

Here a TUN link stands for the device, as wireguard-go makes one; the module's own is tried where
the kernel has it.
"""

import subprocess
from contextlib import closing
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from tests.support.netns import Net
from tests.support.wireguard_pair import module_there

from neti.dataplane import way_out
from neti.dataplane.wireguard import DEVICE, road
from neti.dataplane.wireguard.keys import new_key
from neti.dataplane.wireguard.netlink import KernelWireGuard
from neti.dataplane.wireguard.road import MARK, TABLE, Link, Road, our_rule
from neti.errors import DataplaneError, DataplaneUnavailable, DeviceMissing
from neti.host.network import read_network, set_overlay_route
from neti.ruleset.surroundings import Tunnel

pytestmark = pytest.mark.kernel

OUR_RULE = our_rule(MARK)
SUBNET = IPv4Network("192.168.0.0/18")
OTHER = IPv4Network("192.168.64.0/18")


def ip(net: Net, words: str) -> str:
    done = subprocess.run(
        ["ip", "-N", "-n", net.host, *words.split()], capture_output=True, text=True, check=True
    )
    return done.stdout


def link(net: Net) -> Link:
    found = net.inside(net.host, road.read).link
    assert found is not None
    return found


def made(net: Net) -> Link:
    """All of it, as it should be."""
    ip(net, "tuntap add neti0 mode tun")

    def rest() -> None:
        road.set_link(1380)
        road.set_rule()
        road.set_route(SUBNET)

    net.inside(net.host, rest)
    return link(net)


def test_nothing_is_there(net: Net) -> None:
    found = net.inside(net.host, road.read)
    assert found == Road(None)
    assert len(found.faults(SUBNET, 1380)) == 2
    with pytest.raises(DeviceMissing):
        net.inside(net.host, lambda: road.set_link(1380))
    with pytest.raises(DeviceMissing):
        net.inside(net.host, lambda: road.set_route(SUBNET))
    assert net.inside(net.host, road.delete_link) is False
    assert net.inside(net.host, road.delete_rules) == 0
    assert net.inside(net.host, road.delete_routes) == 0


def test_all_of_it_is_read_back(net: Net) -> None:
    device = made(net)
    assert device == Link(device.index, "neti0", "tun", 1380, up=True, src_valid_mark=True)
    found = net.inside(net.host, road.read)
    assert found == Road(device, (OUR_RULE,), ((SUBNET, device.index),))
    assert found.faults(SUBNET, 1380) == ()
    assert f"78:\tfrom all fwmark {MARK:#x}/{MARK:#x} lookup {TABLE} proto 78" in ip(net, "rule")
    assert "192.168.0.0/18 dev neti0 proto 78 scope 253" in ip(net, f"route show table {TABLE}")


def test_a_marked_packet_takes_it_and_no_other(net: Net) -> None:
    made(net)
    here = IPv4Address("10.0.0.5")
    net.inside(net.host, lambda: set_overlay_route(SUBNET, here, 1300, anew=True))
    assert "dev neti0 table 78" in ip(net, f"route get 192.168.0.9 mark {MARK}")
    assert "dev lo" in ip(net, "route get 192.168.0.9")
    ip(net, "link delete neti0")
    assert "dev lo" in ip(net, f"route get 192.168.0.9 mark {MARK}")


def test_each_step_may_be_repeated(net: Net) -> None:
    device = made(net)

    def again() -> Road:
        road.set_link(1380)
        road.set_rule()
        road.set_route(SUBNET)
        return road.read()

    assert net.inside(net.host, again) == Road(device, (OUR_RULE,), ((SUBNET, device.index),))


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        ("link set neti0 mtu 1500", "its MTU is 1500 and not 1380"),
        ("link set neti0 down", "it is not up"),
        ("rule delete priority 78", "the rule for fwmark 0x1000 is missing or another"),
        (
            "rule add fwmark 0x1000/0x1000 lookup 79 priority 77 protocol 78",
            "the rule for fwmark 0x1000 is missing or another",
        ),
        ("route flush table 78", "the route in table 78 is missing or another"),
        (
            "route add 192.168.0.9 dev lo table 78 proto 78",
            "the route in table 78 is missing or another",
        ),
        ("link delete neti0", "the device is missing"),
    ],
)
def test_what_others_do_is_seen_and_mended(net: Net, harm: str, fault: str) -> None:
    device = made(net)
    ip(net, harm)
    found = net.inside(net.host, road.read)
    assert fault in found.faults(SUBNET, 1380)
    if found.link is not None:

        def mend() -> Road:
            road.set_link(1380)
            road.set_rule()
            road.set_route(SUBNET)
            return road.read()

        mended = net.inside(net.host, mend)
        assert mended == Road(device, (OUR_RULE,), ((SUBNET, device.index),))


def test_src_valid_mark_is_seen_and_set_without_proc(net: Net) -> None:
    made(net)
    words = "sysctl -q -w net.ipv4.conf.neti0.src_valid_mark=0"
    subprocess.run(["ip", "netns", "exec", net.host, *words.split()], check=True)
    assert net.inside(net.host, road.read).faults(SUBNET, 1380) == ("src_valid_mark is 0",)
    net.inside(net.host, lambda: road.set_link(1380))
    assert net.inside(net.host, road.read).faults(SUBNET, 1380) == ()


def test_a_rule_that_asks_for_more_is_another(net: Net) -> None:
    ip(net, "rule add fwmark 0x1000/0x1000 iif eth0 lookup 78 priority 78 protocol 78")
    assert net.inside(net.host, road.read).rules == (replace(OUR_RULE, plain=False),)
    net.inside(net.host, road.set_rule)
    assert net.inside(net.host, road.read).rules == (OUR_RULE,)


def test_nobody_stands_before_our_rule(net: Net) -> None:
    """The kernel puts a rule without a priority before the first one, which is ours: what is marked
    would leave by what it says."""
    device = made(net)
    for added, priority in (("10.0.0.1", 76), ("10.0.0.2", 74)):
        ip(net, f"rule add from {added} lookup main")
        assert net.inside(net.host, road.read).rule_fault()
        net.inside(net.host, road.set_rule)
        found = net.inside(net.host, road.read)
        assert (found.rules, found.faults(SUBNET, 1380)) == ((our_rule(MARK, priority),), ())
        first = ip(net, "rule").splitlines()[1]
        assert first.startswith(f"{priority}:\tfrom all fwmark 0x1000/0x1000 lookup 78"), first
    for added in ("10.0.0.1", "10.0.0.2"):
        ip(net, f"rule delete from {added}")
    net.inside(net.host, road.set_rule)
    assert net.inside(net.host, road.read) == Road(device, (OUR_RULE,), ((SUBNET, device.index),))


def test_what_stands_before_our_rule_is_named(net: Net) -> None:
    made(net)
    ip(net, "rule add from 10.0.0.1 lookup main")
    fault = "another program's rule is before the one for fwmark 0x1000"
    assert net.inside(net.host, road.read).faults(SUBNET, 1380) == (fault,)
    ip(net, "rule add from 10.0.0.2 lookup main priority 0")
    fault = "another program has a rule with priority 0: the one for 0x1000 is not first"
    assert net.inside(net.host, road.read).faults(SUBNET, 1380) == (fault,)


def test_before_the_first_priority_nothing_can_be(net: Net) -> None:
    """It is named, and nothing is left to do; once the other one has gone ours is where it was."""
    made(net)
    ip(net, "rule add from 10.0.0.2 lookup main priority 0")
    assert not net.inside(net.host, road.read).rule_is_right()
    net.inside(net.host, road.set_rule)
    found = net.inside(net.host, road.read)
    assert (found.rules, found.rule_is_right()) == ((our_rule(MARK, 0),), True)
    assert found.rule_fault().startswith("another program has a rule with priority 0")
    ip(net, "rule delete from 10.0.0.2 priority 0")
    assert net.inside(net.host, road.read).rule_fault() == (
        "the rule for fwmark 0x1000 has priority 0 and not 78"
    )
    net.inside(net.host, road.set_rule)
    assert net.inside(net.host, road.read).rules == (OUR_RULE,)


def test_another_mark_has_another_rule(net: Net) -> None:
    """Where the usual bit is another program's."""
    made(net)
    net.inside(net.host, lambda: road.set_rule(0x2000))
    found = net.inside(net.host, road.read)
    assert found.rules == (our_rule(0x2000),)
    assert found.faults(SUBNET, 1380, mark=0x2000) == ()


def test_names_and_numbers_are_the_same_everywhere() -> None:
    """The way out imports nothing, so it has them a second time."""
    assert f"{DEVICE}\0".encode() == way_out._LINK
    here = IPv4Address("10.0.0.5")
    assert Tunnel(own=here, private=here, mtu=1380).mark == MARK


def test_what_others_have_stays(net: Net) -> None:
    """A rule and a route of theirs in the same place, and a link of the same name."""
    made(net)
    ip(net, "rule add fwmark 0x1000/0x1000 lookup 78 priority 90")
    ip(net, "route add 192.168.0.9 dev lo table 78")
    faults = net.inside(net.host, road.read).faults(SUBNET, 1380)
    assert faults == ("another program has 1 route in table 78: 192.168.0.9/32",)
    ip(net, "route add default dev lo table 78")
    assert net.inside(net.host, road.read).faults(SUBNET, 1380) == faults  # it is asked after ours

    def remove() -> None:
        road.delete_routes()
        road.delete_rules()
        road.delete_link()

    net.inside(net.host, remove)
    assert "90:\tfrom all fwmark" in ip(net, "rule")
    assert "192.168.0.9 dev lo" in ip(net, "route show table 78")
    ip(net, "link add neti0 type veth peer name neti1")
    assert net.inside(net.host, road.delete_link) is False
    assert net.inside(net.host, way_out.remove_device) is False
    assert link(net).kind == "veth"
    assert not link(net).usable
    ip(net, "link delete neti0")
    ip(net, "tuntap add neti0 mode tun user 1000")
    assert net.inside(net.host, road.delete_link) is False
    assert "of kind tun, made for the user with uid 1000" in link(net).faults(1380)[0]


def test_a_change_of_the_overlay_subnet_leaves_no_former_route(net: Net) -> None:
    device = made(net)
    net.inside(net.host, lambda: road.set_route(OTHER))
    assert net.inside(net.host, road.read).routes == ((OTHER, device.index),)


def test_a_link_that_is_down_carries_no_route(net: Net) -> None:
    ip(net, "tuntap add neti0 mode tun")
    with pytest.raises(DataplaneError, match="set the link up"):
        net.inside(net.host, lambda: road.set_route(SUBNET))


def test_the_way_out_takes_all_of_it(net: Net) -> None:
    """Both routes of the overlay are named once."""
    made(net)
    here = IPv4Address("10.0.0.5")
    net.inside(net.host, lambda: set_overlay_route(SUBNET, here, 1300, anew=True))
    assert net.inside(net.host, way_out.remove_routes) == [SUBNET]
    assert net.inside(net.host, way_out.remove_rules) == 1
    assert net.inside(net.host, way_out.remove_device) is True
    assert net.inside(net.host, road.read) == Road(None)
    assert "192.168.0.0" not in ip(net, "route show table all")
    assert net.inside(net.host, way_out.remove_rules) == 0
    assert net.inside(net.host, way_out.remove_device) is False


def test_our_second_route_is_nobody_s_overlap(net: Net) -> None:
    """The overlay's own route is the one in the main table."""
    made(net)
    here = IPv4Address("10.0.0.5")
    net.inside(net.host, lambda: set_overlay_route(SUBNET, here, 1300, anew=True))
    seen = net.inside(net.host, lambda: read_network(SUBNET))
    assert [route.device for route in seen.overlapping] == ["lo"]


def test_the_module_s_own_link(net: Net) -> None:
    """Made, and known as such; or why not."""
    if not module_there():
        with pytest.raises(DataplaneUnavailable, match="install wireguard-go"):
            net.inside(net.host, road.make_link)
        return
    net.inside(net.host, road.make_link)
    net.inside(net.host, lambda: road.set_link(1380))
    assert link(net) == Link(link(net).index, "neti0", "wireguard", 1380, True, True)
    with pytest.raises(DataplaneError, match="File exists"):
        net.inside(net.host, road.make_link)
    with closing(net.inside(net.host, KernelWireGuard)) as door:
        door.configure(new_key(), 0)
        ip(net, "link delete neti0")
        assert door.device() is None
