"""The encrypted road where no agent watches it: made by ``neti restore``, judged by ``neti plan``.

Must never do: end what works, or make a key: only an agent that then publishes it may do that.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass

from neti.dataplane.wireguard import road as links
from neti.dataplane.wireguard.implementation import implementation
from neti.dataplane.wireguard.keys import public_half
from neti.dataplane.wireguard.tunnel import WholeTunnel, real_tunnel
from neti.errors import DataplaneError
from neti.host.network import Network
from neti.model.settings import Settings
from neti.model.wireguard_key import PrivateKey
from neti.ruleset.desired import Membership
from neti.ruleset.first_roads import NOBODY, FirstRoads, first_roads
from neti.ruleset.reach import encrypts
from neti.ruleset.roads import tunnel_for
from neti.ruleset.surroundings import Tunnel

NO_KEY = (
    "this host has no WireGuard key yet, so nothing of it is encrypted: a running agent makes one"
)
NO_KEY_ON_DISK = (
    "this host's WireGuard key is not on disk, or cannot be used: the device goes on with the key "
    "and the peers that it has. A running agent makes another key"
)


@dataclass(frozen=True, slots=True)
class ByThisMachine:
    """``found``: "module", "wireguard-go" or None. ``warning``: empty where that is all right."""

    found: str | None
    sentence: str
    warning: str = ""


def by_this_machine(settings: Settings) -> ByThisMachine | None:
    """What this machine would encrypt with, as far as its files tell; None: nothing asks for it."""
    if not settings.encrypts:
        return None
    found = implementation()
    if found == "module":
        return ByThisMachine(found, "this kernel's module")
    if found == "wireguard-go":
        said = "wireguard-go, which is slower than a kernel's module: this kernel has none"
        return ByThisMachine(found, said)
    return ByThisMachine(
        None,
        "nothing on this machine",
        "sites encrypt, but this machine's kernel has no WireGuard module, and wireguard-go is not "
        "installed: as a host it would encrypt nothing, and reach no member where encryption is "
        "required. Install the package wireguard-go, or a kernel that has the module",
    )


@dataclass(slots=True)
class Encrypting:
    """``tunnel``: this host's end, for the rules. ``door``: None where no pair of its site
    encrypts."""

    tunnel: Tunnel | None
    door: WholeTunnel | None
    private: PrivateKey | None

    @classmethod
    def of(cls, members: Membership, seen: Network, private: PrivateKey | None) -> "Encrypting":
        """``seen``: the network; its uplinks may not be there yet, so early in a boot."""
        settings, host = members.settings, members.host
        uplink = seen.mtu(seen.uplinks(host.private))
        tunnel = tunnel_for(settings, host, members.overlay, uplink)
        door = real_tunnel() if encrypts(settings.sites, host.site) else None
        return cls(tunnel, door, private)

    def restore(
        self, members: Membership, tunneled: Collection[str]
    ) -> tuple[int, tuple[str, ...]]:
        """Device, peers, rule and route, before the table that leads to them. Returns how many
        peers there are, and what there is to say. Where it fails, members are as without a key: in
        the clear, or not reached at all where encryption is required."""
        if self.door is None or self.tunnel is None:
            return 0, ()
        if self.private is None:
            return self._goes_on(members, tunneled)
        first, said = self._first(members, self.private, tunneled)
        if said:
            return 0, said
        tunnel, subnet = self.tunnel, members.settings.overlay_subnet
        try:
            self.door.put_right(self.private, tunnel.port, tunnel.mtu, subnet, first.peers)
        except DataplaneError as error:
            return 0, (_not_made(error),)
        finally:
            self.door.close()
        go(members, first)
        return len(first.peers), ()

    def differences(
        self, members: Membership, tunneled: Collection[str]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What is not as it should be of device, peers, rule and route; and what there is to say.
        Members are told their roads."""
        if self.door is None:
            return _left_over(), ()
        if self.tunnel is None:
            return (), ()
        if self.private is None:
            return (), self._goes_on(members, tunneled)[1]
        first, said = self._first(members, self.private, tunneled)
        if said:
            return (), said
        tunnel, subnet, own = self.tunnel, members.settings.overlay_subnet, self.private
        try:
            public = public_half(own)
            faults = self.door.faults(public, tunnel.port, tunnel.mtu, subnet, first.peers)
        except DataplaneError as error:
            return (), (_not_asked(error),)
        finally:
            self.door.close()
        go(members, first)
        return faults, ()

    def _goes_on(
        self, members: Membership, tunneled: Collection[str]
    ) -> tuple[int, tuple[str, ...]]:
        """Without a key on disk: a device that works is left as it is, and its peers are reached
        as before. Returns how many there are, and what there is to say."""
        assert self.door is not None
        try:
            device = self.door.device()
        except DataplaneError as error:
            return 0, (_not_asked(error),)
        finally:
            self.door.close()
        if device is None or device.public_key is None:
            return 0, (NO_KEY,)
        first = first_roads(
            members, device.public_key, device=device, tunneled=tunneled, now=time.time()
        ).held_by(device, members.fleet.keys)
        go(members, first)
        return len(first.peers), (NO_KEY_ON_DISK,)

    def _first(
        self, members: Membership, private: PrivateKey, tunneled: Collection[str]
    ) -> tuple[FirstRoads, tuple[str, ...]]:
        assert self.door is not None
        try:
            device = self.door.device()
        except DataplaneError as error:
            return NOBODY, (_not_asked(error),)
        return (
            first_roads(
                members, public_half(private), device=device, tunneled=tunneled, now=time.time()
            ),
            (),
        )


def _left_over() -> tuple[str, ...]:
    """What is there of a road that no configuration asks for any more."""
    try:
        found = links.read()
    except DataplaneError:
        return ()
    if found.link is not None and found.link.usable:
        return (f"remove {found.link.name}, its rule and its route: what goes through it ends",)
    return ("remove the rule and the route",) if found.rules or found.routes else ()


def go(members: Membership, first: FirstRoads) -> None:
    for host_id, road in first.roads.items():
        members.goes_by(host_id, road)


def _not_made(error: DataplaneError) -> str:
    return f"the WireGuard device is not as it should be, so nothing is encrypted: {error}"


def _not_asked(error: DataplaneError) -> str:
    return f"the WireGuard device could not be asked: {error}"
