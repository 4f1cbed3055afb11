"""The WireGuard device of one host in packet tests: the kernel's module where that is there, and
wireguard-go elsewhere, by the same doors as the agent's."""

import subprocess
from contextlib import ExitStack, closing, suppress
from functools import partial
from ipaddress import IPv4Address, IPv4Network

from tests.support.wireguard_pair import SUBNET, module_there, require_wireguard_go, started

from neti.dataplane.wireguard import DEVICE, WireGuard, road
from neti.dataplane.wireguard.keys import new_key, public_half
from neti.dataplane.wireguard.netlink import KernelWireGuard
from neti.errors import DataplaneError
from neti.model.wireguard_key import PublicKey
from neti.ruleset.peers import Endpoint, Peer, SetPeer
from neti_lab.namespaces import call_inside


def require_wireguard() -> None:
    if not module_there():
        require_wireguard_go()


class TunnelDevice:
    def __init__(self, namespace: str, port: int, mtu: int) -> None:
        self._namespace, self._port, self._mtu = namespace, port, mtu
        self._private = new_key()
        self.key = public_half(self._private)
        self._running = ExitStack()
        self.programs: tuple[int, ...] = ()  # that carry its packets
        self._door = self._start()

    def _start(self) -> WireGuard:
        inside = partial(call_inside, self._namespace)
        door: WireGuard
        if module_there():
            inside(road.make_link)
            self._running.callback(inside, road.delete_link)
            door = self._running.enter_context(closing(inside(KernelWireGuard)))
        else:
            program, door = started(self._running, self._namespace)
            self.programs = (program,)
        door.configure(self._private, self._port)
        inside(partial(road.set_link, self._mtu))
        inside(road.set_rule)
        inside(partial(road.set_route, SUBNET))
        return door

    def sysctl(self, key: str, value: int) -> None:
        words = ["sysctl", "-q", "-w", f"net.ipv4.conf.{DEVICE}.{key}={value}"]
        subprocess.run(["ip", "netns", "exec", self._namespace, *words], check=True)

    def peer(self, other: "TunnelDevice", endpoint: str, *allowed: str) -> None:
        """``allowed``: from where it may send, and what is sent to it."""
        networks = frozenset(map(IPv4Network, allowed))
        there = Endpoint(IPv4Address(endpoint), self._port)
        self._door.apply([SetPeer(Peer(other.key, networks, there))])

    def peers(self, *peers: Peer) -> None:
        self._door.apply([SetPeer(peer) for peer in peers])

    def endpoints(self) -> dict[PublicKey, Endpoint | None]:
        """As they were learned by now."""
        held = self._door.device()
        assert held is not None
        return {key: state.peer.endpoint for key, state in held.peers.items()}

    def stop(self) -> None:
        """The device is gone."""
        with suppress(DataplaneError):  # somebody was faster
            self._running.close()

    def restart(self) -> None:
        """A device of the same key, without peers, as after a crash."""
        self.stop()
        self._door = self._start()
