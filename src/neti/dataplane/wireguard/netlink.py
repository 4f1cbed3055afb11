"""The kernel's WireGuard module, by generic netlink. Layouts: linux/genetlink.h, linux/wireguard.h.

Must never do: ask for a preshared key or change one; raise because of an attribute that it does not
know.
"""

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Final

from neti.dataplane.netlink import (
    NETLINK_GENERIC,
    NetlinkSocket,
    attribute,
    attributes,
    nested,
)
from neti.dataplane.wireguard import DEVICE, FWMARK
from neti.dataplane.wireguard.refusals import refused
from neti.errors import DeviceMissing, KernelRefused
from neti.model.wireguard_key import PrivateKey, PublicKey
from neti.ruleset.peers import (
    Allowed,
    Change,
    Device,
    Endpoint,
    Peer,
    PeerState,
    RemovePeer,
    SetPeer,
    UpdatePeer,
)

_GENERIC: Final = struct.Struct("=BBH")  # command, version, reserved
_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 0x10, 3, 1, 2
_GET, _SET = 0, 1
_VERSION: Final = 1
_IFNAME, _PRIVATE_KEY, _PUBLIC_KEY, _LISTEN_PORT, _FWMARK, _PEERS = 2, 3, 4, 6, 7, 8
_P_KEY, _P_FLAGS, _P_ENDPOINT, _P_KEEPALIVE = 1, 3, 4, 5
_P_HANDSHAKE, _P_RECEIVED, _P_SENT, _P_ALLOWED = 6, 7, 8, 9
_REMOVE_ME, _REPLACE_ALLOWED, _UPDATE_ONLY = 1, 2, 4
_A_FAMILY, _A_ADDRESS, _A_BITS = 1, 2, 3
_TIMESPEC: Final = struct.Struct("=qq")
# The length of an attribute has 16 bits, and all peers of one message stand in one attribute.
_MOST: Final = 32_000
_GONE: Final = frozenset({errno.ENODEV, errno.EOPNOTSUPP})  # no link, or one of another kind


def module_there() -> bool:
    """Whether this kernel has WireGuard. It is loaded by that if this process may load modules."""
    with closing(NetlinkSocket(NETLINK_GENERIC)) as kernel:
        return _family(kernel) is not None


class KernelWireGuard:
    """In the network namespace of the thread that makes it. See ``WireGuard``."""

    def __init__(self, name: str = DEVICE) -> None:
        self._name = name
        self._netlink = NetlinkSocket(NETLINK_GENERIC)
        self._number: int | None = None

    def close(self) -> None:
        self._netlink.close()

    def device(self) -> Device | None:
        family = self._resolved()
        if family is None:
            return None
        try:
            bodies = self._netlink.listed(family, self._message(_GET))
        except KernelRefused as error:
            if error.number in _GONE:
                return None
            raise
        public, port, fwmark = None, 0, 0
        held: dict[bytes, _Reading] = {}
        for body in bodies:
            for kind, value in attributes(body[_GENERIC.size :]):
                match kind:
                    case 4 if any(value):  # _PUBLIC_KEY
                        public = PublicKey(value)
                    case 6:  # _LISTEN_PORT
                        port = struct.unpack("=H", value)[0]
                    case 7:  # _FWMARK
                        fwmark = struct.unpack("=I", value)[0]
                    case 8:  # _PEERS
                        _collect(value, held)
        states = [reading.state() for reading in held.values()]
        return Device(public, port, {state.peer.key: state for state in states}, fwmark)

    def configure(self, private: PrivateKey, port: int) -> None:
        words = attribute(_PRIVATE_KEY, private.raw)
        words += attribute(_LISTEN_PORT, struct.pack("=H", port))
        words += attribute(_FWMARK, struct.pack("=I", FWMARK))
        self._set(words, f"its key and UDP port {port}")

    def apply(self, changes: Sequence[Change]) -> None:
        for part in _parts(map(_change, changes)):
            self._set(nested(_PEERS, *part), f"{len(part)} changes of its peers")

    def _set(self, words: bytes, what: str) -> None:
        family = self._resolved()
        if family is None:
            raise DeviceMissing("this kernel has no WireGuard module that is loaded")
        try:
            self._netlink.request(family, self._message(_SET) + words)
        except KernelRefused as error:
            if error.number in _GONE:
                raise DeviceMissing(f"there is no WireGuard device {self._name}") from error
            raise refused(self._name, what, error.number) from error

    def _message(self, command: int) -> bytes:
        name = os.fsencode(self._name) + b"\0"
        return _GENERIC.pack(command, _VERSION, 0) + attribute(_IFNAME, name)

    def _resolved(self) -> int | None:
        """The number that the kernel gave the module when it was loaded."""
        if self._number is None:
            self._number = _family(self._netlink)
        return self._number


def _family(kernel: NetlinkSocket) -> int | None:
    asked = _GENERIC.pack(_GET_FAMILY, 1, 0) + attribute(_FAMILY_NAME, b"wireguard\0")
    try:
        answers = kernel.ask(_CONTROL, asked)
    except KernelRefused as error:
        if error.number == errno.ENOENT:
            return None
        raise
    for body in answers:
        number = dict(attributes(body[_GENERIC.size :])).get(_FAMILY_ID)
        if number is not None:
            return int(struct.unpack("=H", number)[0])
    return None


# --- writing ---


def _parts(words: Iterable[bytes]) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    size = 0
    for each in words:
        if part and size + len(each) > _MOST:
            yield part
            part, size = [], 0
        part.append(each)
        size += len(each)
    if part:
        yield part


def _change(change: Change) -> bytes:
    match change:
        case SetPeer(peer):
            words = [_key(peer.key), _flags(_REPLACE_ALLOWED)]
            if peer.endpoint is not None:
                words.append(attribute(_P_ENDPOINT, _sockaddr(peer.endpoint)))
            words.append(attribute(_P_KEEPALIVE, struct.pack("=H", peer.keepalive)))
            words.append(nested(_P_ALLOWED, *map(_allowed, peer.allowed)))
        case UpdatePeer(key, endpoint, keepalive):
            words = [_key(key), _flags(_UPDATE_ONLY)]
            if endpoint is not None:
                words.append(attribute(_P_ENDPOINT, _sockaddr(endpoint)))
            if keepalive is not None:
                words.append(attribute(_P_KEEPALIVE, struct.pack("=H", keepalive)))
        case RemovePeer(key):
            words = [_key(key), _flags(_REMOVE_ME | _UPDATE_ONLY)]
    return nested(0, *words)


def _key(key: PublicKey) -> bytes:
    return attribute(_P_KEY, key.raw)


def _flags(flags: int) -> bytes:
    return attribute(_P_FLAGS, struct.pack("=I", flags))


def _allowed(network: Allowed) -> bytes:
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    return nested(
        0,
        attribute(_A_FAMILY, struct.pack("=H", family)),
        attribute(_A_ADDRESS, network.network_address.packed),
        attribute(_A_BITS, bytes((network.prefixlen,))),
    )


def _sockaddr(endpoint: Endpoint) -> bytes:
    port = struct.pack(">H", endpoint.port)
    if endpoint.address.version == 4:
        return struct.pack("=H", socket.AF_INET) + port + endpoint.address.packed + bytes(8)
    zone = endpoint.address.scope_id
    scope = socket.if_nametoindex(zone) if zone else 0
    head = struct.pack("=H", socket.AF_INET6) + port + bytes(4)
    return head + endpoint.address.packed + struct.pack("=I", scope)


# --- reading ---


class _Reading:
    """One peer, which may be told of in several messages: later ones add allowed addresses."""

    __slots__ = ("allowed", "first")

    def __init__(self, first: dict[int, bytes]) -> None:
        self.first = first
        self.allowed: list[Allowed] = []

    def state(self) -> PeerState:
        held = self.first
        seconds, nanoseconds = _TIMESPEC.unpack(held.get(_P_HANDSHAKE, bytes(16)))
        return PeerState(
            Peer(
                key=PublicKey(held[_P_KEY]),
                allowed=frozenset(self.allowed),
                endpoint=_endpoint(held.get(_P_ENDPOINT, b"")),
                keepalive=int.from_bytes(held.get(_P_KEEPALIVE, b""), _NATIVE),
            ),
            handshake=seconds + nanoseconds / 1e9 if seconds else None,
            received=int.from_bytes(held.get(_P_RECEIVED, b""), _NATIVE),
            sent=int.from_bytes(held.get(_P_SENT, b""), _NATIVE),
        )


_NATIVE: Final = "little" if struct.pack("=H", 1) == b"\1\0" else "big"


def _collect(peers: bytes, held: dict[bytes, _Reading]) -> None:
    for _, content in attributes(peers):
        found = dict(attributes(content))
        key = found.get(_P_KEY)
        if key is None:
            continue
        reading = held.setdefault(key, _Reading(found))
        for _, one in attributes(found.get(_P_ALLOWED, b"")):
            network = _network(dict(attributes(one)))
            if network is not None:
                reading.allowed.append(network)


def _network(held: dict[int, bytes]) -> Allowed | None:
    address, bits = held.get(_A_ADDRESS, b""), held.get(_A_BITS, b"")
    if len(bits) != 1:
        return None
    if len(address) == 4:
        return ipaddress.IPv4Network((address, bits[0]), strict=False)
    if len(address) == 16:
        return ipaddress.IPv6Network((address, bits[0]), strict=False)
    return None


def _endpoint(sockaddr: bytes) -> Endpoint | None:
    if len(sockaddr) < 16:
        return None
    family: int = struct.unpack_from("=H", sockaddr)[0]
    port: int = struct.unpack_from(">H", sockaddr, 2)[0]
    if family == socket.AF_INET:
        return Endpoint(ipaddress.IPv4Address(sockaddr[4:8]), port)
    if family == socket.AF_INET6 and len(sockaddr) >= 28:
        address = ipaddress.IPv6Address(sockaddr[8:24])
        scope: int = struct.unpack_from("=I", sockaddr, 24)[0]
        return Endpoint(ipaddress.IPv6Address(f"{address}%{scope}") if scope else address, port)
    return None
