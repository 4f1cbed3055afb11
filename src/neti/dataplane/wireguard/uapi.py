"""wireguard-go, by its socket (https://www.wireguard.com/xplatform/#configuration-protocol).

The socket is in the file system, not in a network namespace: where several hosts are on one
machine, each has a path of its own (through /proc/PID/root).

Must never do: start or end wireguard-go; log what it answers, because the private key is in it.
"""

import errno
import ipaddress
import select
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from neti.dataplane.wireguard import DEVICE, FWMARK
from neti.dataplane.wireguard.keys import public_half
from neti.dataplane.wireguard.refusals import refused
from neti.errors import DataplaneError, DataplaneUnavailable, DeviceMissing, DeviceSilent
from neti.model.wireguard_key import KEY_BYTES, PrivateKey, PublicKey
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

SOCKETS: Final = Path("/var/run/wireguard")  # as wireguard-go has it

_PATIENCE: Final = 10.0
# It answers when all of a request is done, and each new peer takes it some 0.2 ms.
_CHANGES: Final = 500
_BUFFER: Final = 1 << 16
_SILENT: Final = "wireguard-go does not answer: restart it"
_PEER: Final = "\npublic_key="  # where what it says of the next peer begins
_ALLOWED: Final = "allowed_ip="
_NO_KEY: Final = "00" * KEY_BYTES


class UapiWireGuard:
    """``path``: the socket. ``patience``: seconds; raises DeviceSilent after it. The agent's loop
    waits with each question, so that one stays open, and as long as nothing has come of it every
    other raises DeviceSilent at once. See ``WireGuard``."""

    def __init__(
        self, path: Path = SOCKETS / f"{DEVICE}.sock", patience: float = _PATIENCE
    ) -> None:
        self._path = path
        self._patience = patience
        self._unanswered: socket.socket | None = None  # by which it was asked, and said nothing
        self._known: tuple[str, PublicKey] | None = None  # a private key, and its public half
        self._told: dict[str, PeerState] = {}  # what it said of each peer last, in its own words

    def close(self) -> None:
        """Nothing but an unanswered question stays open between two requests."""
        if self._unanswered is not None:
            self._unanswered.close()
            self._unanswered = None

    def device(self) -> Device | None:
        try:
            return self._read(self._asked("get=1\n", "to tell what it holds"))
        except DeviceMissing:
            return None

    def configure(self, private: PrivateKey, port: int) -> None:
        # In this order: the port is opened with the mark.
        words = f"private_key={private.raw.hex()}\nfwmark={FWMARK}\nlisten_port={port}\n"
        self._asked(f"set=1\n{words}", f"its key and UDP port {port}")

    def apply(self, changes: Sequence[Change]) -> None:
        for start in range(0, len(changes), _CHANGES):
            part = changes[start : start + _CHANGES]
            words = "".join(map(_change, part))
            self._asked(f"set=1\n{words}", f"{len(part)} changes of its peers")

    def _asked(self, words: str, what: str) -> str:
        """The answer, without its last line, which says how it went."""
        answer = self._exchanged(words.encode() + b"\n").decode(errors="replace")
        said, _, last = answer.rpartition("\n")
        key, _, value = last.partition("=")
        if key != "errno" or not value.lstrip("-").isdigit():
            raise DataplaneError(f"what answers at {self._path} is not wireguard-go")
        if int(value) != 0:
            raise refused(self._path.stem, what, abs(int(value)))
        return said

    def _exchanged(self, request: bytes) -> bytes:
        if self._unanswered is not None:
            # What it says, or that it has ended: either way there is somebody to ask again.
            if not _is_heard(self._unanswered):
                raise DeviceSilent(_SILENT)
            self.close()
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            return self._answer(door, request)
        except TimeoutError as error:
            with suppress(OSError):
                # Half a request ends here as well: its other half would be waited for.
                door.shutdown(socket.SHUT_WR)
                self._unanswered = door
            raise DeviceSilent(_SILENT) from error
        except (FileNotFoundError, ConnectionError, BrokenPipeError) as error:
            raise DeviceMissing(f"no wireguard-go answers at {self._path}: start it") from error
        except PermissionError as error:
            raise DataplaneUnavailable(
                f"this process may not use {self._path}: run it as root or the agent's user, "
                "and wireguard-go by neti-wireguard.socket"
            ) from error
        except OSError as error:
            raise DataplaneError(f"{self._path}: {error.strerror}") from error
        finally:
            if door is not self._unanswered:
                door.close()

    def _answer(self, door: socket.socket, request: bytes) -> bytes:
        door.settimeout(self._patience)
        door.connect(str(self._path))
        door.sendall(request)
        answer = bytearray()
        while not answer.endswith(b"\n\n"):
            part = door.recv(_BUFFER)
            if not part:
                raise ConnectionResetError(errno.ECONNRESET, "it ended the connection")
            answer += part
        return bytes(answer[:-2])

    def _read(self, said: str) -> Device:
        """Nearly all peers are as they were told of last, and are not made anew."""
        own, *every = f"\n{said}".split(_PEER)
        held = _values(own.split("\n"))
        private = held.get("private_key", _NO_KEY)
        before = self._told
        self._told = {words: before.get(words) or _peer(words) for words in every}
        return Device(
            self._public(private) if private != _NO_KEY else None,
            int(held.get("listen_port", "0")),
            {state.peer.key: state for state in self._told.values()},
            int(held.get("fwmark", "0")),
        )

    def _public(self, private: str) -> PublicKey:
        if self._known is None or self._known[0] != private:
            self._known = private, public_half(PrivateKey(bytes.fromhex(private)))
        return self._known[1]


def _is_heard(door: socket.socket) -> bool:
    """Whether it said something, or has ended. Does not wait."""
    poll = select.poll()
    poll.register(door, select.POLLIN)
    return bool(poll.poll(0))


# --- writing ---


def _change(change: Change) -> str:
    match change:
        case SetPeer(peer):
            words = f"public_key={peer.key.raw.hex()}\n"
            if peer.endpoint is not None:
                words += f"endpoint={peer.endpoint}\n"
            words += f"persistent_keepalive_interval={peer.keepalive}\nreplace_allowed_ips=true\n"
            return words + "".join(f"allowed_ip={network}\n" for network in peer.allowed)
        case UpdatePeer(key, endpoint, keepalive):
            words = f"public_key={key.raw.hex()}\nupdate_only=true\n"
            if endpoint is not None:
                words += f"endpoint={endpoint}\n"
            if keepalive is not None:
                words += f"persistent_keepalive_interval={keepalive}\n"
            return words
        case RemovePeer(key):
            return f"public_key={key.raw.hex()}\nupdate_only=true\nremove=true\n"


# --- reading ---


def _values(lines: Iterable[str]) -> dict[str, str]:
    """Of a name that is there more than once, the last one."""
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _peer(words: str) -> PeerState:
    """``words``: its key, and its lines."""
    key, *lines = words.split("\n")
    allowed = [_network(line[len(_ALLOWED) :]) for line in lines if line.startswith(_ALLOWED)]
    held = _values(lines)
    seconds = int(held.get("last_handshake_time_sec", "0"))
    nanoseconds = int(held.get("last_handshake_time_nsec", "0"))
    return PeerState(
        Peer(
            key=PublicKey(bytes.fromhex(key)),
            allowed=frozenset(allowed),
            endpoint=_endpoint(held.get("endpoint", "")),
            keepalive=int(held.get("persistent_keepalive_interval", "0")),
        ),
        handshake=seconds + nanoseconds / 1e9 if seconds else None,
        received=int(held.get("rx_bytes", "0")),
        sent=int(held.get("tx_bytes", "0")),
    )


def _network(text: str) -> Allowed:
    address, _, bits = text.partition("/")
    if ":" in address:
        return ipaddress.IPv6Network((address, int(bits)))
    return ipaddress.IPv4Network((socket.inet_pton(socket.AF_INET, address), int(bits)))


def _endpoint(text: str) -> Endpoint | None:
    address, _, port = text.rpartition(":")
    if not address:
        return None
    if address.startswith("["):
        return Endpoint(ipaddress.IPv6Address(address.strip("[]")), int(port))
    # In C, because there may be thousands of them.
    return Endpoint(ipaddress.IPv4Address(socket.inet_pton(socket.AF_INET, address)), int(port))
