"""Link, device, peers, rule and route as one thing: what is not as it should be is put right.

In this order: the link is made and up, then its key and port, then its peers, then the rule, then
the route. Killed anywhere, or with a device that vanishes, a packet to an overlay address leads to
``lo`` or to a device that has no peer for it, and nowhere in the clear. See docs/design/road.md.

Must never do: start or end a program, keep a private key, or touch a link of another kind than
WireGuard's and wireguard-go's.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final, Literal, Protocol

from neti.dataplane.wireguard import DEVICE, FWMARK, WireGuard, netlink, road
from neti.dataplane.wireguard.keys import public_half
from neti.dataplane.wireguard.netlink import KernelWireGuard
from neti.dataplane.wireguard.road import Link, Road
from neti.dataplane.wireguard.uapi import SOCKETS, UapiWireGuard
from neti.errors import DataplaneError, DeviceMissing, DeviceSilent
from neti.model.wireguard_key import PrivateKey, PublicKey
from neti.ruleset.peers import Change, Device, Peer, RemovePeer, SetPeer, UpdatePeer, difference

# Seconds. If it takes longer to start, it has started by the time it is asked again.
_TO_START: Final = 1.0
Kind = Literal["module", "wireguard-go"]
NEITHER: Final = (
    "this kernel has no WireGuard module, and no wireguard-go answers: install the package "
    "wireguard-go, then systemctl start neti-wireguard.socket; if it is installed, look at "
    "systemctl status neti-wireguard"
)
_OF_LINK: Final[Mapping[str, Kind]] = {"wireguard": "module", "tun": "wireguard-go"}


class Links(Protocol):
    """What ``road`` does in the kernel, and ``memory.MemoryRoad`` in dictionaries."""

    def read(self) -> Road: ...
    def make_link(self) -> None: ...
    def set_link(self, mtu: int) -> None: ...
    def delete_link(self) -> bool: ...
    def set_rule(self) -> None: ...
    def delete_rules(self) -> int: ...
    def set_route(self, subnet: IPv4Network) -> None: ...
    def delete_routes(self) -> int: ...


class Doors(Protocol):
    def module_there(self) -> bool: ...

    def wake(self) -> bool:
        """Whether a wireguard-go answers. Where systemd listens for it, asking starts it."""

    def opened(self, kind: Kind) -> WireGuard: ...


class WholeTunnel:
    """Not thread-safe. In the network namespace of the calling thread, which must be the same each
    time.

    All methods raise DeviceMissing when there is neither the module nor a wireguard-go that
    answers, DeviceRefused when the device says no, and DataplaneError for the rest. What was done
    before has taken effect then: calling ``put_right`` again goes on from there.
    """

    def __init__(self, links: Links, doors: Doors, wall: Callable[[], float]) -> None:
        self._links = links
        self._doors = doors
        self._wall = wall
        self._kind: Kind | None = None
        self._opened: dict[Kind, WireGuard] = {}
        self._own: tuple[PrivateKey, PublicKey] | None = None
        # What the device held when ``put_right`` looked, before it changed any peers.
        self.seen: Device | None = None

    @property
    def kind(self) -> Kind | None:
        """What the device was when it was last looked at; None: there was none."""
        return self._kind

    def device(self) -> Device | None:
        """What the device holds; None: there is none, or none that answers."""
        door = self._door_of(self._links.read().link)
        return door.device() if door is not None else None

    def faults(
        self,
        public: PublicKey,
        port: int,
        mtu: int,
        subnet: IPv4Network,
        wished: Mapping[PublicKey, Peer],
    ) -> tuple[str, ...]:
        """What is not as it should be, each in a few words. Changes nothing."""
        found = self._links.read()
        said = list(found.faults(subnet, mtu))
        door = self._door_of(found.link)
        device = door.device() if door is not None else None
        if device is not None:
            said += _of_device(device, public, port)
            said += _of_peers(device, difference(device, wished, self._wall()))
        elif door is not None:
            said.append(f"no wireguard-go answers for {DEVICE}")
        return tuple(said)

    def stands(self, mtu: int, subnet: IPv4Network) -> bool:
        """Whether link, rule and route are as ``put_right`` leaves them, which cannot put all right
        that others do. Cheap: the device is not asked."""
        found = self._links.read()
        return (
            found.link is not None
            and not found.link.faults(mtu)
            and found.rule_is_right()
            and found.route_is_right(subnet)
        )

    def put_right(
        self,
        private: PrivateKey,
        port: int,
        mtu: int,
        subnet: IPv4Network,
        wished: Mapping[PublicKey, Peer],
    ) -> tuple[str, ...]:
        """Make all of it what it should be; what is already so is not touched, and no session ends
        because of it. Returns what was not so, each in a few words."""
        found = self._links.read()
        link = found.link
        said = ["the device is missing"] if link is None else [*link.faults(mtu)]
        if link is None:
            self._make()
        elif not link.usable:
            raise DataplaneError(
                f"the link {said[0]}: give it another name there, or take it out with ip link "
                f"delete {DEVICE}"
            )
        door = self._door()
        device = _answering(door)  # before the link is touched, which may be another program's
        if said:
            self._links.set_link(mtu)
        public = self._public(private)
        if differs := _of_device(device, public, port):
            door.configure(private, port)
            said += differs
            device = _answering(door)
        self.seen = device
        if changes := difference(device, wished, self._wall()):
            door.apply(changes)
            said += _of_peers(device, changes)
        return (*said, *self._lead(subnet))

    def _lead(self, subnet: IPv4Network) -> Iterator[str]:
        """The rule and the route, which are looked at anew: a route goes with its link. That the
        rule only moves is not said: others' came or went, and nobody touched what is ours."""
        found = self._links.read()
        if not found.rule_is_right():
            self._links.set_rule()
        if not found.rule_leads():
            yield found.rule_fault()
        if not found.route_is_right(subnet):
            self._links.set_route(subnet)
            yield "the route is missing or another"

    def apply(self, changes: Sequence[Change]) -> None:
        """Of its peers, as ``WireGuard.apply``."""
        door = self._opened.get(self._kind) if self._kind is not None else None
        (door or self._door()).apply(changes)

    def remove(self) -> bool:
        """The rule, the routes, and the link with all that it holds. wireguard-go ends with its
        link. Returns whether any of it was there."""
        removed = bool(self._links.delete_rules()), bool(self._links.delete_routes())
        gone = self._links.delete_link()
        self._kind = None
        return gone or any(removed)

    def close(self) -> None:
        for door in self._opened.values():
            door.close()
        self._opened.clear()

    def _make(self) -> None:
        if self._doors.module_there():
            self._links.make_link()
        elif not self._doors.wake():
            raise DeviceMissing(NEITHER)

    def _door(self) -> WireGuard:
        door = self._door_of(self._links.read().link)
        if door is None:
            raise DeviceMissing(f"there is no WireGuard device {DEVICE}")
        return door

    def _door_of(self, link: Link | None) -> WireGuard | None:
        self._kind = _OF_LINK.get(link.kind) if link is not None else None
        if self._kind is None:
            return None
        if self._kind not in self._opened:
            self._opened[self._kind] = self._doors.opened(self._kind)
        return self._opened[self._kind]

    def _public(self, private: PrivateKey) -> PublicKey:
        if self._own is None or self._own[0] != private:
            self._own = private, public_half(private)
        return self._own[1]


class _RealDoors:
    def __init__(self, path: Path, patience: float = _TO_START) -> None:
        self._path = path
        # One for good, so that a program that hangs is waited for once.
        self._waking = UapiWireGuard(path, patience)

    def module_there(self) -> bool:
        return netlink.module_there()

    def wake(self) -> bool:
        try:
            return self._waking.device() is not None
        except DeviceSilent:
            return False

    def opened(self, kind: Kind) -> WireGuard:
        return KernelWireGuard() if kind == "module" else UapiWireGuard(self._path)


def real_tunnel(
    socket: Path = SOCKETS / f"{DEVICE}.sock", wall: Callable[[], float] = time.time
) -> WholeTunnel:
    """``socket``: wireguard-go's. ``wall``: CLOCK_REALTIME, as WireGuard tells handshakes."""
    return WholeTunnel(road, _RealDoors(socket), wall)


def _answering(door: WireGuard) -> Device:
    device = door.device()
    if device is None:
        raise DeviceMissing(
            f"there is a link {DEVICE} of kind tun, and no wireguard-go answers for it: systemctl "
            "restart neti-wireguard.service; if that does not help, it is another program's, which "
            f"sudo grep -l {DEVICE} /proc/[0-9]*/fdinfo/* names: give it another name there, or "
            f"take it out with ip link delete {DEVICE}"
        )
    return device


# --- in words ---


def _of_device(device: Device, public: PublicKey, port: int) -> list[str]:
    said = []
    if device.public_key != public:
        said.append("its key is missing" if device.public_key is None else "its key is another")
    if device.port != port:
        said.append(f"its UDP port is {device.port} and not {port}")
    if device.fwmark != FWMARK:
        said.append(f"its packets have mark {device.fwmark:#x} and not {FWMARK:#x}")
    return said


def _of_peers(device: Device, changes: Sequence[Change]) -> list[str]:
    counts = dict.fromkeys(("missing", "different", "too many"), 0)
    for change in changes:
        match change:
            case SetPeer(peer):
                counts["different" if peer.key in device.peers else "missing"] += 1
            case UpdatePeer(keepalive=int()):  # WireGuard itself learns another endpoint
                counts["different"] += 1
            case RemovePeer():
                counts["too many"] += 1
    return [f"peers {what}: {count}" for what, count in counts.items() if count]
