"""Which interfaces lead to this machine's own containers, and what comes by the others."""

import subprocess

import pytest
from tests.kernel.test_packets import HOST, SETTINGS, UnderTest
from tests.support import netns
from tests.support.netns import Net, Server, reaches

from neti.host import surroundings
from neti.host.machine import RealMachine
from neti.ruleset.policy import structure
from neti.ruleset.surroundings import Surroundings

pytestmark = pytest.mark.kernel

STORAGE, STORED = "10.8.0.10", "10.8.0.66"


def ip(namespace: str, *commands: str) -> None:
    for words in commands:
        subprocess.run(["ip", "-n", namespace, *words.split()], check=True)


@pytest.fixture
def host(net: Net) -> UnderTest:
    """Beside the uplink: a bridge with a card in it that leads outside (a macvlan, since a
    namespace has no cards), and a bridge of containers."""
    ip(
        net.host,
        "link add link eth0 name card type macvlan mode bridge",
        "link add br-stor type bridge",
        "link set card master br-stor up",
        f"address add {STORAGE}/24 dev br-stor",
        "link set br-stor up",
        "link add docker9 type bridge",
        "link set c0 master docker9",
        "address del 172.31.0.1/24 dev c0",
        "address add 172.31.0.1/24 dev docker9",
        "link set docker9 up",
    )
    ip(net.outside, f"address add {STORED}/24 dev eth0")
    return UnderTest(net)


def look(net: Net) -> Surroundings:
    def inside() -> Surroundings:
        machine = RealMachine()
        seen = machine.network(SETTINGS.overlay_subnet)
        return surroundings.surroundings(machine, seen, HOST, others=())

    seen: Surroundings = net.inside(net.host, inside)
    return seen


def enforce(host: UnderTest) -> None:
    host.enforce()
    rules = structure(host.settings, look(host.net))
    host.reconciler.resync(rules, host.members.elements)


def test_a_bridge_with_a_card_in_it_is_no_containers(net: Net, host: UnderTest) -> None:
    """What comes by it is judged, and what comes by the containers' bridge is let in."""
    seen = look(net)
    assert seen.uplinks == ("eth0",)
    assert seen.strangers == ("br-stor",)
    assert "docker9" in seen.containers
    assert "br-stor" not in seen.containers
    Server(net, net.host, 8080)
    enforce(host)
    assert not reaches(net, net.outside, STORAGE, 8080, STORED)
    assert reaches(net, net.container, "172.31.0.1", 8080)


def test_a_published_port_is_judged_on_every_card(net: Net, host: UnderTest) -> None:
    """By a bridge with a card in it, and by a second card without a default route."""
    ip(
        net.host,
        "link set card nomaster",
        f"address del {STORAGE}/24 dev br-stor",
        f"address add {STORAGE}/24 dev card",
    )
    publish = (
        "table ip docker { chain pre { type nat hook prerouting priority dstnat; "
        f"tcp dport {{ 80, 8080 }} ip daddr {STORAGE} dnat to {netns.CONTAINER}:9000; }}; }}"
    )
    subprocess.run(["ip", "netns", "exec", net.host, "nft", publish], check=True)
    Server(net, net.container, 9000)
    assert reaches(net, net.outside, STORAGE, 8080, STORED)
    enforce(host)
    assert not reaches(net, net.outside, STORAGE, 8080, STORED)
    assert reaches(net, net.outside, STORAGE, 80, STORED)


def test_an_open_port_is_no_containers_own(net: Net, host: UnderTest) -> None:
    """open_ports has 80: of this host, and of what it publishes, not of each container."""
    Server(net, net.container, 80)
    Server(net, net.host, 80)
    assert reaches(net, net.outside, netns.CONTAINER, 80, netns.STRANGER)
    enforce(host)
    assert not reaches(net, net.outside, netns.CONTAINER, 80, netns.STRANGER)
    assert reaches(net, net.outside, netns.PRIVATE, 80, netns.STRANGER)


def test_a_veth_with_both_ends_here_is_no_containers(net: Net, host: UnderTest) -> None:
    """It may lead to a bridge with a card in it."""
    ip(net.host, "link add v0 type veth peer name v1", "link set v1 master docker9")
    seen = look(net)
    assert set(seen.strangers) == {"br-stor", "docker9", "v0", "v1"}
    assert not {"v0", "v1", "docker9"} & set(seen.containers)


@pytest.mark.parametrize("name", [b"\xc3\xbc0", b"n\xff\xfe", b'q"x'])
def test_an_interface_that_nft_cannot_name_stops_nothing(
    net: Net, host: UnderTest, name: bytes
) -> None:
    """A bridge of that name is told apart by its index."""
    rename = ["ip", "-n", net.host, "link", "set", "br-stor", "down"]
    subprocess.run(rename, check=True)
    command = [b"ip", b"-n", net.host.encode(), b"link", b"set", b"br-stor", b"name", name]
    subprocess.run(command, check=True)
    subprocess.run([*command[:5], name, b"up"], check=True)
    address = [b"ip", b"-n", net.host.encode(), b"address", b"replace"]
    subprocess.run([*address, f"{STORAGE}/24".encode(), b"dev", name], check=True)
    Server(net, net.host, 8080)
    assert reaches(net, net.outside, STORAGE, 8080, STORED)
    enforce(host)
    assert not reaches(net, net.outside, STORAGE, 8080, STORED)
    assert reaches(net, net.container, "172.31.0.1", 8080)
