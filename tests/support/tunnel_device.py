"""wireguard-go for packet tests, and its peers by the UAPI socket.

The socket is a file, /run/wireguard/DEVICE.sock, and not part of the network namespace: so each
process gets a mount namespace with a /run/wireguard of its own, and is reached through /proc.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

DEVICE: Final = "neti0"
_PATIENCE: Final = 200  # looks, a twentieth of a second apart


def require_wireguard() -> None:
    if shutil.which("wireguard-go") is None or not Path("/dev/net/tun").exists():
        reason = "needs wireguard-go (Debian's package of that name) and /dev/net/tun"
        if os.environ.get("CI") == "true":
            pytest.fail(f"cannot run in CI: {reason}")
        pytest.skip(reason)


@dataclass
class WireGuard:
    """One device in one network namespace. ``key``: the public half, in hexadecimal as UAPI wants
    it."""

    namespace: str
    port: int
    mtu: int
    key: str = field(init=False)

    def __post_init__(self) -> None:
        private = X25519PrivateKey.generate()
        self.key = private.public_key().public_bytes_raw().hex()
        self._private = private.private_bytes_raw().hex()
        self._start()

    def _start(self) -> None:
        inside = (
            "mkdir -p /run/wireguard && mount -t tmpfs none /run/wireguard && "
            f"exec wireguard-go -f {DEVICE}"
        )
        words = ["ip", "netns", "exec", self.namespace]
        self._process = subprocess.Popen(
            [*words, "unshare", "--mount", "sh", "-c", inside],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "WG_PROCESS_FOREGROUND": "1"},
        )
        self._socket = Path(f"/proc/{self._process.pid}/root/run/wireguard/{DEVICE}.sock")
        for _ in range(_PATIENCE):
            if self._socket.exists():
                break
            time.sleep(0.05)
        self._say(f"private_key={self._private}", f"listen_port={self.port}")
        ip = ["ip", "-n", self.namespace]
        subprocess.run([*ip, "link", "set", DEVICE, "mtu", str(self.mtu), "up"], check=True)
        self.sysctl("src_valid_mark", 1)

    def sysctl(self, key: str, value: int) -> None:
        words = ["sysctl", "-q", "-w", f"net.ipv4.conf.{DEVICE}.{key}={value}"]
        subprocess.run(["ip", "netns", "exec", self.namespace, *words], check=True)

    def peer(self, other: "WireGuard", overlay: str, endpoint: str) -> None:
        self._say(
            f"public_key={other.key}",
            f"endpoint={IPv4Address(endpoint)}:{other.port}",
            "replace_allowed_ips=true",
            f"allowed_ip={IPv4Address(overlay)}/32",
        )

    def allow(self, other: "WireGuard", network: str) -> None:
        """Let this peer send from more than its own address: WireGuard itself drops that
        otherwise."""
        self._say(f"public_key={other.key}", f"allowed_ip={network}")

    def _say(self, *lines: str) -> None:
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(str(self._socket))
            door.sendall("\n".join(("set=1", *lines, "", "")).encode())
            answer = door.recv(1000).decode()
        assert answer.startswith("errno=0"), answer

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def restart(self) -> None:
        """A device of the same key, without peers."""
        self.stop()
        self._start()
