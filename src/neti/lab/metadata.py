"""A host's instance metadata service, version 2, as EC2's behaves. For the lab and tests only.

It speaks for one made-up instance, on a socket that is handed in (the lab makes them inside network
namespaces), and fails on request. It never answers a request without a token, as the real one.
"""

import contextlib
import dataclasses
import enum
import json
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

_TOKEN_PATH: Final = "/latest/api/token"
_TTL_HEADER: Final = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN_HEADER: Final = "X-aws-ec2-metadata-token"
_LONGEST_TTL: Final = 21_600
_MOST_TOKENS: Final = 1_000
_IDLE_SECONDS: Final = 5.0  # a kept-alive connection must not keep its thread


class Fault(enum.Enum):
    """Ways to fail. HANG takes the request and answers nothing until the fault is gone."""

    UNAUTHORIZED = 401
    NOT_FOUND = 404
    SERVER_ERROR = 500
    HANG = "hang"
    GARBAGE = "garbage"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceMetadata:
    """``vpc_id`` None: as in EC2-Classic, the interface lists none."""

    instance_id: str
    private: IPv4Address
    public: IPv4Address | None = None
    vpc_id: str | None = None
    ipv6: tuple[IPv6Address, ...] = ()
    mac: str = "02:00:00:00:00:01"
    region: str = "us-east-1"
    zone: str = "us-east-1a"
    instance_type: str = "m1.large"


def contents(instance: InstanceMetadata) -> dict[str, str]:
    """Every leaf below /latest/, by its path. Pure."""
    interface = f"meta-data/network/interfaces/macs/{instance.mac}"
    leaves = {
        "meta-data/instance-id": instance.instance_id,
        "meta-data/instance-type": instance.instance_type,
        "meta-data/local-ipv4": str(instance.private),
        "meta-data/mac": instance.mac,
        f"{interface}/local-ipv4s": str(instance.private),
        f"{interface}/mac": instance.mac,
        "meta-data/placement/availability-zone": instance.zone,
        "meta-data/placement/region": instance.region,
        "dynamic/instance-identity/document": json.dumps(_document(instance), indent=2),
    }
    if instance.public is not None:
        leaves["meta-data/public-ipv4"] = str(instance.public)
        leaves[f"{interface}/public-ipv4s"] = str(instance.public)
    if instance.vpc_id is not None:
        leaves[f"{interface}/vpc-id"] = instance.vpc_id
    if instance.ipv6:
        leaves[f"{interface}/ipv6s"] = "\n".join(map(str, instance.ipv6))
    return leaves


def lookup(leaves: Mapping[str, str], path: str) -> str | None:
    """The leaf at the path, or the listing of a directory; None when there is neither."""
    wanted = path.removeprefix("/latest").strip("/")
    if not path.startswith("/latest/"):
        return None
    if wanted in leaves:
        return leaves[wanted]
    below = f"{wanted}/" if wanted else ""
    names: dict[str, None] = {}
    for leaf in sorted(leaves):
        if leaf.startswith(below):
            name, slash, _ = leaf.removeprefix(below).partition("/")
            names[f"{name}{slash}"] = None
    return "\n".join(names) or None


def _document(instance: InstanceMetadata) -> dict[str, Any]:
    return {
        "accountId": "123456789012",
        "availabilityZone": instance.zone,
        "instanceId": instance.instance_id,
        "instanceType": instance.instance_type,
        "privateIp": str(instance.private),
        "region": instance.region,
        "version": "2017-09-30",
    }


class MetadataService:
    """One instance's service. Its content and its fault may change while it runs."""

    def __init__(
        self,
        instance: InstanceMetadata,
        listener: socket.socket | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``listener``: a bound TCP socket, which the service then owns; None: a free port."""
        self.tokens = _Tokens(monotonic)
        self._instance = instance
        self._fault: tuple[Fault, str] | None = None
        self._mended = threading.Event()
        self._server = _Server(self, listener or _free_port())
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            name=f"metadata {instance.instance_id}",
            daemon=True,
        )

    @property
    def endpoint(self) -> str:
        host, port = self._server.socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def instance(self) -> InstanceMetadata:
        return self._instance

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop answering and close the socket; hanging requests end too."""
        self.mend()
        if self._thread.is_alive():
            with contextlib.suppress(OSError):
                # Wakes the thread, which else looks every half second whether it should end.
                self._server.socket.shutdown(socket.SHUT_RDWR)
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def change(self, **changes: Any) -> None:
        """Answer with other content from now on: ``change(public=None)``."""
        self._instance = dataclasses.replace(self._instance, **changes)

    def fail(self, fault: Fault, *, path: str = "") -> None:
        """Fail from now on whenever the request's path ends so ('' is every request)."""
        self._mended.set()  # whoever hangs in an earlier fault
        self._mended = threading.Event()
        self._fault = (fault, path)

    def mend(self) -> None:
        self._fault = None
        self._mended.set()

    def fault_for(self, path: str) -> Fault | None:
        fault = self._fault
        return fault[0] if fault is not None and path.endswith(fault[1]) else None

    def hang(self) -> None:
        self._mended.wait()


@dataclass(slots=True)
class _Tokens:
    """Tokens and when they end."""

    monotonic: Callable[[], float]
    _ends: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def new(self, seconds: int) -> str:
        token = secrets.token_urlsafe(40)
        with self._lock:
            if len(self._ends) >= _MOST_TOKENS:
                del self._ends[next(iter(self._ends))]
            self._ends[token] = self.monotonic() + seconds
        return token

    def valid(self, token: str) -> bool:
        with self._lock:
            end = self._ends.get(token)
        return end is not None and self.monotonic() < end

    def forget(self) -> None:
        """As after a restart of the real service: every token is void."""
        with self._lock:
            self._ends.clear()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, service: MetadataService, listener: socket.socket) -> None:
        # Not HTTPServer's own binding, which asks a resolver for the host's name.
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_address = listener.getsockname()
        listener.listen(64)
        self.service = service

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that went away is no news
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "EC2ws"
    sys_version = ""
    timeout = _IDLE_SECONDS
    server: _Server

    def do_PUT(self) -> None:
        # Read what was sent, or it would be taken for the next request.
        with contextlib.suppress(ValueError):
            length = int(self.headers.get("Content-Length", "0"))
            self.rfile.read(max(0, min(length, 65_536)))
        if self._failed():
            return
        if self.path != _TOKEN_PATH:
            self._answer(404 if self.path.startswith("/latest/") else 405)
        elif self.headers.get("X-Forwarded-For") is not None:
            self._answer(403)  # what a proxy adds; the real service trusts none
        elif (seconds := _ttl(self.headers.get(_TTL_HEADER))) is None:
            self._answer(400)
        else:
            token = self.server.service.tokens.new(seconds)
            self._answer(200, token, {_TTL_HEADER: str(seconds)})

    def do_GET(self) -> None:
        if self._failed():
            return
        service = self.server.service
        if not service.tokens.valid(self.headers.get(_TOKEN_HEADER, "")):
            self._answer(401)
            return
        found = lookup(contents(service.instance), self.path.partition("?")[0])
        self._answer(404) if found is None else self._answer(200, found)

    def _failed(self) -> bool:
        match self.server.service.fault_for(self.path):
            case None:
                return False
            case Fault.HANG:
                self.server.service.hang()
                self.close_connection = True
            case Fault.GARBAGE:
                self._answer(200, "<!DOCTYPE html>\n<html><body>Please sign in</body></html>")
            case fault:
                self._answer(int(fault.value))
        return True

    def _answer(
        self, status: int, text: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: nobody reads it, and it would be a line per request."""


def _ttl(text: str | None) -> int | None:
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 5:
        return None
    return int(text) if 1 <= int(text) <= _LONGEST_TTL else None


def _free_port() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    return listener
