"""What the two WireGuard doors make of bytes: those of a kernel, and those of whoever answers."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from pathlib import Path
from threading import Thread

import pytest

from neti.dataplane.netlink import attribute, attributes, nested
from neti.dataplane.wireguard import netlink, uapi
from neti.dataplane.wireguard.keys import new_key, public_half
from neti.dataplane.wireguard.uapi import UapiWireGuard
from neti.errors import DataplaneError, DeviceMissing, DeviceRefused, DeviceSilent
from neti.model.wireguard_key import PublicKey
from neti.ruleset.peers import Endpoint, Peer, PeerState, RemovePeer, SetPeer

PRIVATE = new_key()


def some_key() -> PublicKey:
    return PublicKey(os.urandom(32))


@contextmanager
def answering(tmp_path: Path, *answers: bytes) -> Iterator[tuple[UapiWireGuard, list[bytes]]]:
    """Somebody at the socket, and what it was asked."""
    path, asked = tmp_path / "neti0.sock", list[bytes]()

    def serve(listening: socket.socket) -> None:
        for answer in answers:
            caller, _ = listening.accept()
            with caller:
                heard = b""
                while not heard.endswith(b"\n\n"):
                    heard += caller.recv(1 << 16)
                asked.append(heard)
                caller.sendall(answer)

    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(path))
        listening.listen()
        server = Thread(target=serve, args=(listening,))
        server.start()
        yield UapiWireGuard(path), asked
        server.join()


def test_what_wireguard_go_says_is_read(tmp_path: Path) -> None:
    """With lines that a later version may add."""
    first, second = some_key(), some_key()
    said = f"""\
private_key={PRIVATE.raw.hex()}
listen_port=51820
fwmark=8192
something_new=7
public_key={first.raw.hex()}
preshared_key={"00" * 32}
protocol_version=1
endpoint=[fe80::1%3]:51821
last_handshake_time_sec=1800000000
last_handshake_time_nsec=500000000
tx_bytes=3
rx_bytes=2
persistent_keepalive_interval=25
something_new=1
allowed_ip=192.168.0.1/32
allowed_ip=10.0.0.0/8
public_key={second.raw.hex()}
last_handshake_time_sec=0
errno=0

"""
    with answering(tmp_path, said.encode()) as (door, asked):
        device = door.device()
    assert asked == [b"get=1\n\n"]
    assert device is not None
    assert device.public_key == public_half(PRIVATE)
    assert device.port == 51820
    assert device.fwmark == 8192
    allowed = frozenset({IPv4Network("192.168.0.1"), IPv4Network("10.0.0.0/8")})
    endpoint = Endpoint(IPv6Address("fe80::1%3"), 51821)
    whole = PeerState(Peer(first, allowed, endpoint, 25), 1800000000.5, received=2, sent=3)
    assert device.peers == {first: whole, second: PeerState(Peer(second, frozenset()))}


def test_only_peers_of_which_it_says_something_else_are_made_anew(tmp_path: Path) -> None:
    """There may be thousands, and nearly all are as they were at the last look."""
    same, grown, gone, come = sorted(some_key() for _ in range(4))

    def said(**received: int) -> bytes:
        keys = {"same": same, "grown": grown, "gone": gone, "come": come}
        peers = (f"public_key={keys[one].raw.hex()}\nrx_bytes={n}\n" for one, n in received.items())
        return f"listen_port=1\n{''.join(peers)}errno=0\n\n".encode()

    answers = said(same=1, grown=1, gone=1), said(come=1, grown=2, same=1), said(same=1)
    with answering(tmp_path, *answers) as (door, _):
        looks = [door.device() for _ in answers]
    first, second, third = (look.peers for look in looks if look is not None)
    assert {key: state.received for key, state in second.items()} == {come: 1, grown: 2, same: 1}
    assert first[grown].received == 1
    assert first[same] is second[same] is third[same]
    assert set(third) == {same}


def test_a_device_without_a_key_has_none(tmp_path: Path) -> None:
    said = b"private_key=" + b"00" * 32 + b"\nerrno=0\n\n"
    with answering(tmp_path, said, b"errno=0\n\n") as (door, _):
        for _ in range(2):
            device = door.device()
            assert device is not None
            assert device.public_key is None
            assert device.port == 0


def test_many_changes_are_several_requests(tmp_path: Path) -> None:
    """The second is refused: the first took effect, and the third is not sent."""
    changes = [RemovePeer(some_key()) for _ in range(1200)]
    with (
        answering(tmp_path, b"errno=0\n\n", b"errno=-12\n\n") as (door, asked),
        pytest.raises(DeviceRefused, match="neti0 did not take 500 changes") as refused,
    ):
        door.apply(changes)
    assert refused.value.number == 12
    assert [heard.count(b"remove=true") for heard in asked] == [500, 500]


def test_somebody_else_at_the_socket(tmp_path: Path) -> None:
    with (
        answering(tmp_path, b"private_key=f00\n\n") as (door, _),
        pytest.raises(DataplaneError, match="is not wireguard-go") as wrong,
    ):
        door.device()
    assert "f00" not in str(wrong.value)


def test_wireguard_go_ends_in_the_middle(tmp_path: Path) -> None:
    with answering(tmp_path, b"private_key=", b"errno=") as (door, _):
        assert door.device() is None
        with pytest.raises(DeviceMissing, match="start it"):
            door.configure(PRIVATE, 51820)


def test_a_socket_that_nobody_serves(tmp_path: Path) -> None:
    """As a killed wireguard-go leaves it."""
    path = tmp_path / "neti0.sock"
    with closing(socket.socket(socket.AF_UNIX)) as left:
        left.bind(str(path))
    assert UapiWireGuard(path).device() is None


# --- the kernel's ---


def told(key: PublicKey, *more: bytes) -> bytes:
    return nested(0, attribute(1, key.raw), *more)


def allowed(address: str, bits: int) -> bytes:
    return nested(
        0,
        attribute(1, struct.pack("=H", socket.AF_INET)),
        attribute(2, IPv4Address(address).packed),
        attribute(3, bytes((bits,))),
    )


def test_a_peer_that_is_told_in_two_messages_is_one() -> None:
    """The second part repeats its key and has more addresses, and nothing else."""
    key, other = some_key(), some_key()
    sockaddr = struct.pack("=H", socket.AF_INET6) + struct.pack(">H", 51820) + bytes(4)
    sockaddr += IPv6Address("fe80::1").packed + struct.pack("=I", 3)
    held: dict[bytes, netlink._Reading] = {}
    first = told(
        key,
        attribute(4, sockaddr),
        attribute(5, struct.pack("=H", 25)),
        attribute(6, struct.pack("=qq", 1_800_000_000, 500_000_000)),
        attribute(7, struct.pack("=Q", 2)),
        attribute(8, struct.pack("=Q", 3)),
        nested(9, allowed("192.168.0.1", 32)),
        attribute(99, b"of a later kernel"),
    )
    netlink._collect(first, held)
    rest = told(key, nested(9, allowed("192.168.0.2", 32), attribute(0, b"")))
    netlink._collect(rest + told(other), held)
    networks = frozenset({IPv4Network("192.168.0.1"), IPv4Network("192.168.0.2")})
    peer = Peer(key, networks, Endpoint(IPv6Address("fe80::1%3"), 51820), 25)
    assert [reading.state() for reading in held.values()] == [
        PeerState(peer, 1800000000.5, received=2, sent=3),
        PeerState(Peer(other, frozenset())),
    ]


def test_no_message_is_longer_than_an_attribute_may_be() -> None:
    """However many peers, none is left out, and the order stays."""
    endpoint = Endpoint(IPv6Address("2001:db8::1"), 51820)
    addresses = [IPv4Network(IPv4Address("192.168.0.0") + n) for n in range(16_000)]
    peers = [Peer(some_key(), frozenset({one}), endpoint) for one in addresses]
    parts = list(netlink._parts(netlink._change(SetPeer(peer)) for peer in peers))
    assert max(len(nested(8, *part)) for part in parts) <= 1 << 15
    words = [
        dict(attributes(content)) for part in parts for _, content in attributes(b"".join(part))
    ]
    assert [held[1] for held in words] == [peer.key.raw for peer in peers]


@pytest.fixture(name="hangs")
def _hangs(tmp_path: Path) -> Iterator[tuple[UapiWireGuard, socket.socket]]:
    """A program at the socket that takes nothing up, and who asks it."""
    path = tmp_path / "neti0.sock"
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(5.0)
        door = UapiWireGuard(path, patience=0.05)
        yield door, listening
        door.close()


def test_one_that_hangs_is_waited_for_once(
    hangs: tuple[UapiWireGuard, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent's loop waits with each question."""
    door, _ = hangs
    with pytest.raises(DeviceSilent):
        door.device()
    # Whoever asks again would fail here otherwise.
    monkeypatch.setattr(socket.socket, "connect", None)
    for _ in range(3):
        with pytest.raises(DeviceSilent):
            door.configure(PRIVATE, 51820)


@pytest.mark.parametrize("said", [b"listen_port=0\nerrno=0\n\n", b""], ids=["answers", "ends"])
def test_one_that_hung_is_asked_again_when_it_goes_on_or_is_restarted(
    hangs: tuple[UapiWireGuard, socket.socket], said: bytes
) -> None:
    door, listening = hangs
    with pytest.raises(DeviceSilent):
        door.device()
    with listening.accept()[0] as caller:
        assert caller.recv(1 << 16) == b"get=1\n\n"
        caller.sendall(said)
    with pytest.raises(DeviceSilent):
        door.device()  # nobody takes this one up
    with listening.accept()[0] as caller:
        assert caller.recv(1 << 16) == b"get=1\n\n"


def test_half_a_request_to_one_that_hung_is_at_its_end(
    hangs: tuple[UapiWireGuard, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it goes on it would wait for the rest of it, and so would everybody for its answer."""
    door, listening = hangs
    monkeypatch.setattr(uapi, "_CHANGES", 5_000)  # more than a socket holds
    many = [RemovePeer(some_key())] * 5_000
    with pytest.raises(DeviceSilent):
        door.apply(many)
    with listening.accept()[0] as caller:
        caller.settimeout(5.0)
        while caller.recv(1 << 16):
            pass
