"""The contract of the whole tunnel: link, device, rule and route, in memory and in a real kernel.

By wireguard-go in a network namespace, and by the kernel's module where that is there.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Protocol, TypeVar

import pytest
from tests.support.netns import require_root
from tests.support.wireguard_pair import kinds, require_wireguard_go, started

from neti.dataplane.wireguard import DEVICE, memory, netlink, road, uapi
from neti.dataplane.wireguard.keys import new_key, public_half
from neti.dataplane.wireguard.memory import MemoryTunnel
from neti.dataplane.wireguard.road import MARK, Road, our_rule
from neti.dataplane.wireguard.tunnel import WholeTunnel, _RealDoors, real_tunnel
from neti.errors import DataplaneError, DeviceMissing
from neti.model.wireguard_key import PublicKey
from neti.ruleset.peers import Device, Endpoint, Peer, RemovePeer, SetPeer
from neti_lab.namespaces import call_inside

T = TypeVar("T")

PORT, MTU = 51873, 1420
SUBNET = IPv4Network("192.168.0.0/18")
KEY = new_key()
OWN = public_half(KEY)


class World(Protocol):
    """``inside``: calls a function where the tunnel is."""

    tunnel: WholeTunnel

    def inside(self, function: Callable[[], T]) -> T: ...
    def look(self) -> Road: ...
    def start(self) -> None: ...
    def vanish(self) -> None: ...
    def set_down(self) -> None: ...


class InMemory:
    def __init__(self, *, module: bool) -> None:
        self._tunnel = MemoryTunnel(lambda: 1_800_000_000.0, module=module)
        self.tunnel: WholeTunnel = self._tunnel
        self._module = module

    def inside(self, function: Callable[[], T]) -> T:
        return function()

    def look(self) -> Road:
        return self._tunnel.road.read()

    def start(self) -> None:
        if not self._module:
            self._tunnel.road.start()

    def vanish(self) -> None:
        self._tunnel.road.vanish()

    def set_down(self) -> None:
        """Its route goes with that."""
        held = self._tunnel.road.held
        assert held.link is not None
        down = road.Link(
            held.link.index, DEVICE, held.link.kind, MTU, up=False, src_valid_mark=True
        )
        self._tunnel.road.held = Road(down, held.rules)


class Real:
    def __init__(self, stack: ExitStack, *, module: bool) -> None:
        self._stack, self._module = stack, module
        self._name = f"netiwt-{os.getpid()}"
        subprocess.run(["ip", "netns", "add", self._name], check=True)
        stack.callback(subprocess.run, ["ip", "netns", "delete", self._name], check=True)
        self._ip("link set lo up")
        self.tunnel = real_tunnel()
        if not module:
            self._program()

    def _program(self) -> None:
        self._pid, door = started(self._stack, self._name)
        self.tunnel = real_tunnel(door._path)

    def inside(self, function: Callable[[], T]) -> T:
        return call_inside(self._name, function)

    def look(self) -> Road:
        return self.inside(road.read)

    def start(self) -> None:
        if not self._module and self.look().link is None:
            self._program()

    def vanish(self) -> None:
        if self._module:
            self._ip(f"link delete {DEVICE}")
            return
        os.kill(self._pid, signal.SIGTERM)
        for _ in range(500):
            # Its UDP port is free only when it has ended.
            if self.look().link is None and self._has_ended():
                return
            time.sleep(0.02)
        raise AssertionError("wireguard-go does not end")

    def _has_ended(self) -> bool:
        try:
            stat = Path(f"/proc/{self._pid}/stat").read_text()
        except FileNotFoundError:
            return True
        return stat.rpartition(")")[2].split()[0] in "ZX"

    def set_down(self) -> None:
        self._ip(f"link set {DEVICE} down")

    def _ip(self, words: str) -> None:
        subprocess.run(["ip", "-n", self._name, *words.split()], check=True)


def _worlds() -> list[object]:
    real = [kind for kind in kinds() if kind != "memory"]
    return ["memory-module", "memory-wireguard-go", *real]


@pytest.fixture(params=_worlds())
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    kind: str = request.param
    with ExitStack() as stack:
        if kind.startswith("memory"):
            made: World = InMemory(module=kind == "memory-module")
        else:
            require_root()
            if kind == "wireguard-go":
                require_wireguard_go()
            made = Real(stack, module=kind == "module")
        made.start()
        yield made
        made.inside(made.tunnel.close)


def peer(number: int) -> Peer:
    address = IPv4Address("192.168.0.0") + number
    there = Endpoint(IPv4Address("203.0.113.0") + number, PORT)
    return Peer(PublicKey(os.urandom(32)), frozenset({IPv4Network(address)}), there)


def wished(*peers: Peer) -> dict[PublicKey, Peer]:
    return {one.key: one for one in peers}


def put_right(
    world: World, peers: dict[PublicKey, Peer], *, port: int = PORT, mtu: int = MTU
) -> tuple[str, ...]:
    return world.inside(partial(world.tunnel.put_right, KEY, port, mtu, SUBNET, peers))


def faults(world: World, peers: dict[PublicKey, Peer]) -> tuple[str, ...]:
    return world.inside(partial(world.tunnel.faults, OWN, PORT, MTU, SUBNET, peers))


def stands(world: World) -> bool:
    return world.inside(partial(world.tunnel.stands, MTU, SUBNET))


def device(world: World) -> Device:
    held = world.inside(world.tunnel.device)
    assert held is not None
    return held


def is_whole(world: World, peers: dict[PublicKey, Peer]) -> None:
    held, found = device(world), world.look()
    assert (held.public_key, held.port) == (OWN, PORT)
    assert {key: state.peer for key, state in held.peers.items()} == peers
    assert found.faults(SUBNET, MTU) == ()
    assert faults(world, peers) == ()
    assert stands(world)


def test_it_is_made_and_then_left_alone(world: World) -> None:
    peers = wished(peer(1), peer(2))
    assert faults(world, peers)
    assert put_right(world, peers)
    is_whole(world, peers)
    assert world.tunnel.kind in {"module", "wireguard-go"}
    assert put_right(world, peers) == ()
    is_whole(world, peers)


def test_a_device_that_went_is_made_whole_again(world: World) -> None:
    """With wireguard-go once that runs again. Until then what is marked leads to lo, as the rule
    leads to a table without a route."""
    peers = wished(peer(1), peer(2))
    put_right(world, peers)
    world.vanish()
    assert not stands(world)
    assert world.inside(world.tunnel.device) is None
    assert (world.look().rules, world.look().routes) == ((our_rule(MARK),), ())
    world.start()
    assert "the route is missing or another" in put_right(world, peers)
    is_whole(world, peers)


def test_a_device_that_is_down_is_set_up_and_its_route_comes_back(world: World) -> None:
    peers = wished(peer(1))
    put_right(world, peers)
    world.set_down()
    assert not stands(world)
    assert "it is not up" in faults(world, peers)
    put_right(world, peers)
    is_whole(world, peers)


def test_key_port_and_mtu_are_put_right(world: World) -> None:
    put_right(world, {}, port=PORT + 1, mtu=1380)
    stranger = new_key()
    world.inside(partial(world.tunnel.put_right, stranger, PORT + 1, 1380, SUBNET, {}))
    found = faults(world, {})
    assert found == (
        f"its MTU is 1380 and not {MTU}",
        "its key is another",
        f"its UDP port is {PORT + 1} and not {PORT}",
    )
    assert put_right(world, {}) == found
    is_whole(world, {})


def test_a_device_of_an_earlier_version_gets_its_mark(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = wished(peer(1))
    with monkeypatch.context() as earlier:
        for door in (memory, netlink, uapi):
            earlier.setattr(door, "FWMARK", 0)
        put_right(world, peers)
    assert faults(world, peers) == ("its packets have mark 0x0 and not 0x2000",)
    put_right(world, peers)
    is_whole(world, peers)


def test_peers_are_put_right_and_counted(world: World) -> None:
    kept, gone, new = peer(1), peer(2), peer(3)
    put_right(world, wished(kept, gone))
    moved = Peer(kept.key, kept.allowed, Endpoint(IPv4Address("203.0.113.99"), PORT), 25)
    said = put_right(world, wished(moved, new))
    assert said == ("peers missing: 1", "peers different: 1", "peers too many: 1")
    is_whole(world, wished(moved, new))


def test_another_endpoint_is_set_back_and_nobody_s_doing(world: World) -> None:
    """WireGuard learns it from whatever the peer sends, by a NAT that gives it another port."""
    kept = peer(1)
    put_right(world, wished(kept))
    learned = replace(kept, endpoint=Endpoint(IPv4Address("203.0.113.99"), PORT + 1))
    world.inside(partial(world.tunnel.apply, [SetPeer(learned)]))
    assert faults(world, wished(kept)) == ()
    assert put_right(world, wished(kept)) == ()
    is_whole(world, wished(kept))


def test_changes_go_to_the_device(world: World) -> None:
    first, second = peer(1), peer(2)
    put_right(world, wished(first))
    world.inside(partial(world.tunnel.apply, [SetPeer(second), RemovePeer(first.key)]))
    is_whole(world, wished(second))


def test_changes_for_a_device_that_went_say_so(world: World) -> None:
    put_right(world, {})
    world.vanish()
    with pytest.raises(DeviceMissing):
        world.inside(partial(world.tunnel.apply, [SetPeer(peer(1))]))


def test_a_rule_and_a_route_that_others_took_out_come_back(world: World) -> None:
    put_right(world, {})
    links = world.tunnel._links
    world.inside(links.delete_rules)
    world.inside(links.delete_routes)
    assert put_right(world, {}) == (
        "the rule for fwmark 0x1000 is missing or another",
        "the route is missing or another",
    )
    is_whole(world, {})


def test_all_of_it_is_taken_out(world: World) -> None:
    put_right(world, wished(peer(1)))
    assert world.inside(world.tunnel.remove) is True
    assert world.look() == Road(None)
    assert world.inside(world.tunnel.device) is None
    assert world.tunnel.kind is None
    assert world.inside(world.tunnel.remove) is False


def test_without_the_module_and_without_wireguard_go_it_says_what_to_do() -> None:
    tunnel = MemoryTunnel(lambda: 0.0, module=False)
    with pytest.raises(DeviceMissing, match="install the package wireguard-go"):
        tunnel.put_right(KEY, PORT, MTU, SUBNET, {})
    assert tunnel.road.read() == Road(None)


def test_wireguard_go_is_started_by_asking_where_something_listens_for_it() -> None:
    """And only where it is needed. After its end too."""
    tunnel = MemoryTunnel(lambda: 0.0, module=False)
    tunnel.road.listens = True
    for _ in range(2):
        tunnel.put_right(KEY, PORT, MTU, SUBNET, {})
        assert tunnel.kind == "wireguard-go"
        tunnel.road.vanish()
    with_module = MemoryTunnel(lambda: 0.0)
    with_module.road.listens = True
    with_module.put_right(KEY, PORT, MTU, SUBNET, {})
    assert with_module.kind == "module"


@pytest.mark.parametrize(("kind", "owner"), [("dummy", None), ("tun", 1000)])
def test_another_programs_link_of_that_name_is_left_alone(kind: str, owner: int | None) -> None:
    tunnel = MemoryTunnel(lambda: 0.0)
    link = road.Link(7, DEVICE, kind, 1500, up=True, src_valid_mark=False, owner=owner)
    theirs = Road(link)
    tunnel.road.held = theirs
    with pytest.raises(DataplaneError, match=f"another program's, of kind {kind}"):
        tunnel.put_right(KEY, PORT, MTU, SUBNET, {})
    assert tunnel.remove() is False
    assert tunnel.road.read() == theirs


def test_a_link_for_which_nobody_answers_is_named() -> None:
    """wireguard-go makes its link before its socket, or it hangs."""
    tunnel = MemoryTunnel(lambda: 0.0, module=False)
    tunnel.road.start()
    tunnel.wireguard.vanish()
    before = tunnel.road.read()
    with pytest.raises(DeviceMissing, match=r"systemctl restart neti-wireguard\.service"):
        tunnel.put_right(KEY, PORT, MTU, SUBNET, {})
    assert tunnel.road.read() == before  # it may be another program's


def test_a_device_that_refuses_is_gone_on_with_where_it_was() -> None:
    tunnel = MemoryTunnel(lambda: 0.0)
    peers = wished(peer(1), peer(2))
    tunnel.put_right(KEY, PORT, MTU, SUBNET, {})
    tunnel.wireguard.failing, tunnel.wireguard.failing_after = DataplaneError("no"), 1
    with pytest.raises(DataplaneError):
        tunnel.put_right(KEY, PORT, MTU, SUBNET, peers)
    tunnel.wireguard.failing = None
    assert tunnel.put_right(KEY, PORT, MTU, SUBNET, peers) == ("peers missing: 1",)


def test_a_wireguard_go_that_hangs_or_does_not_start_is_said_to_be_missing(tmp_path: Path) -> None:
    """Somebody listens for it and nobody answers. It costs the agent's loop a second at most."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listener:
        listener.bind(str(tmp_path / "neti0.sock"))
        listener.listen()
        doors = _RealDoors(tmp_path / "neti0.sock", patience=0.05)
        assert doors.wake() is False
    assert doors.wake() is False
