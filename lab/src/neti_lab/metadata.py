"""A host's metadata service, as EC2's (version 2), Google's or Azure's behaves. For the lab and
tests only.

It speaks for one made-up instance, on a socket that is handed in (the lab makes them inside network
namespaces), and fails on request. It never answers a request without a token, as EC2's, or without
the header that the other two ask for.
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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, ip_address
from typing import Any, Final

from neti_lab import other_clouds
from neti_lab.metadata_contents import Address, InstanceMetadata, Interface, contents, lookup

__all__ = [
    "Address",
    "Fault",
    "InstanceMetadata",
    "Interface",
    "MetadataService",
    "contents",
    "lookup",
]

_TOKEN_PATH: Final = "/latest/api/token"
_TTL_HEADER: Final = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN_HEADER: Final = "X-aws-ec2-metadata-token"
_LONGEST_TTL: Final = 21_600
_MOST_TOKENS: Final = 1_000
_LOST_SECONDS: Final = 60.0  # longer than any client waits
_AT_ONCE: Final = 64
_IDLE_SECONDS: Final = 5.0  # a kept-alive connection must not keep its thread


class Fault(enum.Enum):
    """Ways to fail. HANG takes the request and answers nothing until the fault is gone."""

    UNAUTHORIZED = 401
    FORBIDDEN = 403  # the service is switched off for this instance
    NOT_FOUND = 404
    THROTTLED = 429
    SERVER_ERROR = 500
    UNAVAILABLE = 503
    HANG = "hang"
    GARBAGE = "garbage"


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
        self._limit: _Limit | None = None
        self._monotonic = monotonic
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

    def throttle(self, per_second: float | None) -> None:
        """Answer so many requests a second at most, and 429 beyond; None: as many as come."""
        self._limit = None if per_second is None else _Limit(per_second, self._monotonic)

    def stop_and_start(self, *, public: IPv4Address | None) -> None:
        """As after the instance was stopped and started: the same id and private address, another
        public one, and no token from before is valid."""
        self.change(public=public)
        self.tokens.forget()

    def fault_for(self, path: str) -> Fault | None:
        if self._limit is not None and not self._limit.allows():
            return Fault.THROTTLED
        fault = self._fault
        return fault[0] if fault is not None and path.endswith(fault[1]) else None

    def answer_ttl(self, client: str) -> int | None:
        """How many hops the answer to a token request may go; 0: it never arrives.

        EC2's service sits one hop before the instance, and this one on it: what goes to the
        instance itself arrives, what goes on to a container has one hop less. None: any number.
        """
        own = {str(self._instance.private), *map(str, self._instance.ipv6)}
        listening = self._server.socket.getsockname()[0]
        if client in own or client == listening or ip_address(client).is_loopback:
            return None
        return self._instance.hop_limit - 1

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


class _Limit:
    """A bucket of one second's requests, filled as time passes."""

    def __init__(self, per_second: float, monotonic: Callable[[], float]) -> None:
        self._rate = per_second
        self._monotonic = monotonic
        self._level = per_second
        self._at = monotonic()
        self._lock = threading.Lock()

    def allows(self) -> bool:
        with self._lock:
            now = self._monotonic()
            self._level = min(self._rate, self._level + (now - self._at) * self._rate)
            self._at = now
            if self._level < 1:
                return False
            self._level -= 1
            return True


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
        self._places = threading.BoundedSemaphore(_AT_ONCE)

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own; what is too much is closed at once."""
        if self._places.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except BaseException:
                self._places.release()
                raise
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

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
        if (cloud := self.server.service.instance.cloud) != "ec2":
            self._answer(404 if cloud == "gcp" else 400, headers=self._flavor(cloud))
        elif self.path != _TOKEN_PATH:
            self._answer(404 if self.path.startswith("/latest/") else 405)
        elif self.headers.get("X-Forwarded-For") is not None:
            self._answer(403)  # what a proxy adds; the real service trusts none
        elif (seconds := _ttl(self.headers.get(_TTL_HEADER))) is None:
            self._answer(400)
        else:
            self._answer_with_token(seconds)

    def _answer_with_token(self, seconds: int) -> None:
        token = self.server.service.tokens.new(seconds)
        ttl = self.server.service.answer_ttl(str(self.client_address[0]))
        if ttl is None:
            self._answer(200, token, {_TTL_HEADER: str(seconds)})
        elif ttl > 0:
            with _hops(self.connection, ttl):
                self._answer(200, token, {_TTL_HEADER: str(seconds)})
        else:
            # The packets die on the way: the client hears nothing, and gives up by itself.
            self.connection.settimeout(_LOST_SECONDS)
            with contextlib.suppress(OSError):
                self.connection.recv(1)
            self.close_connection = True

    def do_GET(self) -> None:
        if self._failed():
            return
        service = self.server.service
        if service.instance.cloud != "ec2":
            self._get_elsewhere(service.instance)
            return
        if not service.tokens.valid(self.headers.get(_TOKEN_HEADER, "")):
            self._answer(401)
            return
        found = lookup(contents(service.instance), self.path.partition("?")[0])
        self._answer(404) if found is None else self._answer(200, found)

    def _get_elsewhere(self, instance: InstanceMetadata) -> None:
        path, _, query = self.path.partition("?")
        name, value, refused = (
            ("Metadata-Flavor", "Google", 403)
            if instance.cloud == "gcp"
            else ("Metadata", "true", 400)
        )
        found: object = None
        if instance.cloud == "gcp" and path == other_clouds.GOOGLE_PATH and "recursive" in query:
            found = other_clouds.google(instance)
        elif instance.cloud == "azure" and path == other_clouds.AZURE_INSTANCE:
            found = other_clouds.azure(instance)
        elif instance.cloud == "azure" and path == other_clouds.AZURE_BALANCER:
            found = other_clouds.azure_balancer(instance)
        flavor = self._flavor(instance.cloud)
        proxied = self.headers.get("X-Forwarded-For") is not None
        if proxied or self.headers.get(name) != value:
            self._answer(refused, headers=flavor)
        elif found is None:
            self._answer(404, headers=flavor)
        else:
            self._answer(200, json.dumps(found), flavor)

    @staticmethod
    def _flavor(cloud: str) -> dict[str, str]:
        return {"Metadata-Flavor": "Google"} if cloud == "gcp" else {}

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


@contextlib.contextmanager
def _hops(connection: socket.socket, ttl: int) -> Iterator[None]:
    """What is sent meanwhile goes so many hops."""
    six = connection.family is socket.AF_INET6
    level, option = (
        (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
        if six
        else (socket.IPPROTO_IP, socket.IP_TTL)
    )
    before = connection.getsockopt(level, option)
    connection.setsockopt(level, option, ttl)
    try:
        yield
    finally:
        connection.setsockopt(level, option, before)


def _ttl(text: str | None) -> int | None:
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 5:
        return None
    return int(text) if 1 <= int(text) <= _LONGEST_TTL else None


def _free_port() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    return listener
