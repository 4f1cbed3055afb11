"""A real ZooKeeper server from Debian's packages, for the lab and for tests.

Must never do: end a process that it did not start, or answer to another address than it was given.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from neti.errors import NetiError
from neti.model.settings import RegistryTLS
from neti.registry.zookeeper import tls
from neti.registry.zookeeper.certificates import subject

_JAVA: Final = Path("/usr/share/java")
_JAR: Final = _JAVA / "zookeeper.jar"
# What Debian's zookeeper.jar does not name in its manifest, and TLS needs.
_NETTY: Final = tuple(
    _JAVA / f"netty-{part}.jar"
    for part in (
        *("buffer", "codec", "common", "handler", "resolver", "transport"),
        *("transport-native-epoll", "transport-native-unix-common"),
    )
)
# What docs/security.md has operators run servers with, and says why of each.
LIMITS: Final = (
    "-Djute.maxbuffer=65536",
    "-Dzookeeper.jute.maxbuffer.extrasize=4194304",
    "-Dzookeeper.closeSessionTxn.enabled=false",
    "-Dzookeeper.DigestAuthenticationProvider.enabled=false",
)
# Servers that hear of no winner ask each other more and more rarely: up to once a minute, if nobody
# says otherwise. A lab's servers are one machine, where a lost question is asked again at once.
_ELECTION: Final = ("-Dzookeeper.fastleader.maxNotificationInterval=1000",)
_X509: Final = "org.apache.zookeeper.server.auth.X509AuthenticationProvider"
_MAIN: Final = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
_CLONE_NEWNET: Final = 0x40000000
_COMMAND_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Peer:
    """One server of an ensemble; its number is its place in the list, from 1."""

    address: str
    quorum_port: int
    election_port: int

    @classmethod
    def on_free_ports(cls, address: str = "127.0.0.1") -> Self:
        return cls(address, free_port(address), free_port(address))


@dataclass(frozen=True, slots=True)
class ServerTLS:
    """Files as ``neti registry dev-ca`` makes them, and which doors are open."""

    ca: Path
    cert: Path
    key: Path
    store: Path  # key and certificate in one file: what a PEM key store is
    plain: bool = False  # a plain port beside the TLS one
    enforced: bool = True  # a session without a certificate may do nothing
    super_user: str | None = None  # the subject that no rights hold back

    @classmethod
    def of(cls, folder: Path, name: str, *, plain: bool = False, enforced: bool = True) -> Self:
        """With the super user whose certificate lies in ``folder``, if there is one."""
        stem = folder / f"server-{name}"
        supers = sorted(folder.glob("super-*.pem"))
        return cls(
            folder / "ca.pem",
            stem.with_name(f"{stem.name}.pem"),
            stem.with_name(f"{stem.name}.key"),
            stem.with_name(f"{stem.name}.store.pem"),
            plain=plain,
            enforced=enforced,
            super_user=subject(supers[0]) if supers else None,
        )

    @property
    def files(self) -> RegistryTLS:
        """For a client that shows the server's own certificate."""
        return RegistryTLS(ca=self.ca, cert=self.cert, key=self.key)


class ZooKeeperServer:
    """One server process and its folder. As a context manager it is started and removed."""

    def __init__(
        self,
        *,
        address: str = "127.0.0.1",
        port: int | None = None,
        namespace: str | None = None,
        folder: Path | None = None,
        tick_ms: int = 2000,
        heap_mb: int = 256,
        ensemble: Sequence[Peer] = (),
        number: int = 1,
        security: ServerTLS | None = None,
        connections: int = 0,
        words: str = "ruok,srvr,mntr,conf",
        limits: Sequence[str] = LIMITS,
    ) -> None:
        """``folder``: kept when given, else a temporary one that ``close`` removes.

        With ``security``, ``port`` is the TLS port. ``connections``: maxClientCnxns, 0: no limit.
        ``words``: the four-letter words that it answers. ``limits``: what Java is told of them.
        """
        self.address = address
        self.port = port if port is not None else free_port(address)
        self.security = security
        self.plain_port = free_port(address) if security and security.plain else None
        self._connections = connections
        self._words = words
        self._limits = tuple(limits)
        self.folder = folder or Path(tempfile.mkdtemp(prefix="neti-zookeeper-"))
        self._temporary = folder is None
        self._namespace = namespace
        self._tick_ms = tick_ms
        self._heap_mb = heap_mb
        self._ensemble = tuple(ensemble)
        self._number = number
        self._process: subprocess.Popen[bytes] | None = None

    # --- life ---

    @property
    def hosts(self) -> str:
        return f"{self.address}:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "zookeeper.log"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def command(self) -> list[str]:
        """Write the configuration and return the command that runs the server with it."""
        require_package()
        if self.security is not None:
            _require_netty()
        self._configure()
        inside = ["ip", "netns", "exec", self._namespace] if self._namespace is not None else []
        return [
            *inside,
            "java",
            f"-Xmx{self._heap_mb}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",  # starts in half the time; the peak is not needed here
            "-XX:-UsePerfData",
            # A lab's data need not survive the machine's power, only the server's own end.
            "-Dzookeeper.forceSync=no",
            "-Dzookeeper.jmx.log4j.disable=true",
            *(_ELECTION if self._ensemble else ()),
            *self._limits,
            *("-cp", ":".join(map(str, (self.folder, _JAR, _JAVA / "slf4j-simple.jar", *_NETTY)))),
            _MAIN,
            str(self.folder / "zoo.cfg"),
        ]

    def start(self, timeout: float = 30.0) -> None:
        """Start it and wait until it serves; with others of its ensemble, see ``spawn``."""
        self.spawn()
        self.wait(timeout)

    def spawn(self) -> None:
        if self._process is not None:
            raise NetiError(f"the ZooKeeper at {self.hosts} runs already")
        command = self.command()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, timeout: float = 30.0) -> None:
        """Until it serves clients (for a server of an ensemble: until there is a quorum)."""
        deadline = time.monotonic() + timeout
        while "Mode:" not in self.four_letters("srvr"):
            if self._process is not None and self._process.poll() is not None:
                raise NetiError(
                    f"ZooKeeper ended at once (code {self._process.returncode}); "
                    f"its last words in {self.log}: {self.last_words(3)}"
                )
            if time.monotonic() > deadline:
                raise NetiError(
                    f"ZooKeeper at {self.hosts} does not serve after {timeout:.0f} s: "
                    f"see {self.log}"
                )
            time.sleep(0.05)

    def stop(self) -> None:
        """Ask it to end, and insist."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def restart(self, timeout: float = 30.0) -> None:
        self.stop()
        self.start(timeout)

    def pause(self) -> None:
        """It keeps its connections and does nothing until ``resume``."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- looking at it ---

    def four_letters(self, word: str) -> str:
        """Its answer to a four-letter word; empty when there is none."""
        try:
            with self._connected() as connection:
                connection.sendall(word.encode())
                parts = []
                while part := connection.recv(65536):
                    parts.append(part)
        except OSError:
            return ""
        return b"".join(parts).decode(errors="replace")

    def metrics(self) -> Mapping[str, str]:
        """``mntr`` as a mapping."""
        lines = (line.split("\t", 1) for line in self.four_letters("mntr").splitlines())
        return {line[0]: line[1] for line in lines if len(line) == 2}

    def last_words(self, lines: int) -> str:
        """The end of what it logged, for a message."""
        try:
            logged = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return "none"
        return " / ".join(line.strip() for line in logged[-lines:]) or "none"

    # --- within ---

    def _connected(self) -> socket.socket:
        connection = _socket_in(self._namespace)
        try:
            connection.settimeout(_COMMAND_SECONDS)
            connection.connect((self.address, self.port))
            if self.security is None:
                return connection
            secure = tls.context(self.security.files)
            return secure.wrap_socket(connection, server_hostname=self.address)
        except BaseException:
            connection.close()
            raise

    def _configure(self) -> None:
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        lines = [
            f"tickTime={self._tick_ms}",
            f"dataDir={data}",
            "admin.enableServer=false",
            f"maxClientCnxns={self._connections}",
            "maxSessionTimeout=40000",  # stock; it would follow a short tickTime
            f"4lw.commands.whitelist={self._words}",
            "initLimit=20",
            "syncLimit=10",
            *self._ports(),
        ]
        for number, peer in enumerate(self._ensemble, 1):
            lines.append(f"server.{number}={peer.address}:{peer.quorum_port}:{peer.election_port}")
        if self._ensemble:
            (data / "myid").write_text(f"{self._number}\n", encoding="ascii")
        (self.folder / "zoo.cfg").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (self.folder / "simplelogger.properties").write_text(
            "org.slf4j.simpleLogger.defaultLogLevel=warn\n", encoding="ascii"
        )

    def _ports(self) -> list[str]:
        if self.security is None:
            return [f"clientPort={self.port}", f"clientPortAddress={self.address}"]
        lines = [
            f"secureClientPort={self.port}",
            f"secureClientPortAddress={self.address}",
            "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
            f"authProvider.x509={_X509}",
            f"ssl.keyStore.location={self.security.store}",
            "ssl.keyStore.type=PEM",
            f"ssl.trustStore.location={self.security.ca}",
            "ssl.trustStore.type=PEM",
            "ssl.clientAuth=need",
            "ssl.protocol=TLSv1.3",
            "ssl.enabledProtocols=TLSv1.3,TLSv1.2",
        ]
        if self.security.enforced:
            lines += ["enforce.auth.enabled=true", "enforce.auth.schemes=x509"]
        if self.security.super_user is not None:
            lines.append(f"X509AuthenticationProvider.superUser={self.security.super_user}")
        if self.plain_port is not None:
            lines += [f"clientPort={self.plain_port}", f"clientPortAddress={self.address}"]
        return lines

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal(number)
        self._signal(signal.SIGCONT)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def require_package() -> None:
    """Raises NetiError when this machine cannot run a ZooKeeper server."""
    if not _JAR.exists():
        raise NetiError(f"{_JAR} is missing: apt-get install libzookeeper-java")
    if shutil.which("java") is None:
        raise NetiError("there is no java on this machine: apt-get install default-jre-headless")


def _require_netty() -> None:
    if missing := [jar for jar in _NETTY if not jar.exists()]:
        raise NetiError(f"TLS needs {missing[0]}: apt-get install libnetty-java")


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _socket_in(namespace: str | None) -> socket.socket:
    """A socket of that network namespace. A thread enters it, for a thread can end there."""
    if namespace is None:
        return socket.socket()
    made: list[socket.socket] = []
    path = f"/run/netns/{namespace}"

    def enter() -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, _CLONE_NEWNET) == 0:
            made.append(socket.socket())
        os.close(descriptor)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if not made:
        raise OSError(f"cannot enter the network namespace {namespace}")
    return made[0]
