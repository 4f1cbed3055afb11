"""The instance metadata service, version 2: a token first, its header on every request.

Standard library only, and no proxy: a link-local service behind http_proxy would be somebody
else's. Every wait, an answer's length and the number of tries are bounded, no redirect is followed,
and only a 404 is "there is none". What comes back is text that the caller must still judge.
"""

import http.client
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from neti.errors import IdentityError
from neti.identity.source import SourceSilent

DEFAULT_ENDPOINT: Final = "http://169.254.169.254"
DEFAULT_ENDPOINT6: Final = "http://[fd00:ec2::254]"
ENDPOINT_VARIABLE: Final = "AWS_EC2_METADATA_SERVICE_ENDPOINT"  # as the AWS SDKs name it
ENDPOINT_MODE_VARIABLE: Final = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"
_TOKEN_PATH: Final = "/latest/api/token"
_TOKEN_SECONDS: Final = 300
_MAX_BYTES: Final = 64 * 1024
_PAUSES: Final = (0.2, 0.5, 1.0)  # before the second, third and fourth try
_WORTH_ANOTHER_TRY: Final = frozenset({408, 429, *range(500, 600)})


@dataclass(slots=True)
class MetadataClient:
    """Not thread-safe. ``sleep`` is handed in so that tests do not wait."""

    endpoint: str = ""
    timeout: float = 2.0
    sleep: Callable[[float], None] = time.sleep
    _token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.endpoint = (self.endpoint or _configured_endpoint()).rstrip("/")
        try:
            _place(self.endpoint)
        except ValueError as error:
            raise IdentityError(
                f"{ENDPOINT_VARIABLE} is {self.endpoint[:80]!r}, expected http://HOST[:PORT]"
            ) from error

    def get(self, path: str) -> str | None:
        """The text at ``path``; None when the service says for sure that there is none (404).

        Raises SourceSilent when it does not answer or keeps failing, IdentityError when it refuses
        to answer or its answer makes no sense.
        """
        if self._token is None:
            self._token = self._new_token()
        status, body = self._ask("GET", path, {"X-aws-ec2-metadata-token": self._token})
        if status == 401:  # the token has run out: once more with a new one
            self._token = self._new_token()
            status, body = self._ask("GET", path, {"X-aws-ec2-metadata-token": self._token})
        if status == 404:
            return None
        if status != 200:
            raise IdentityError(self._said(path, status))
        try:
            return body.decode("ascii").strip()
        except UnicodeDecodeError as error:
            raise IdentityError(f"{self._where(path)} answered with something not text") from error

    def _new_token(self) -> str:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
        status, body = self._ask("PUT", _TOKEN_PATH, headers)
        if status != 200:
            raise IdentityError(self._said(_TOKEN_PATH, status))
        token = body.decode("latin-1").strip()
        # It goes into a header: anything but one printable word is no token.
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise IdentityError(f"{self._where(_TOKEN_PATH)} answered with something not a token")
        return token

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """One request, tried again while it fails in a way that may pass."""
        failure: SourceSilent | None = None
        for pause in (0.0, *_PAUSES):
            if pause:
                self.sleep(pause)
            try:
                status, body = self._once(method, path, headers)
            except (OSError, http.client.HTTPException) as error:
                why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
                failure = SourceSilent(
                    f"{self._where(path)} does not answer: {why or type(error).__name__}"
                )
                failure.__cause__ = error
                continue
            if status not in _WORTH_ANOTHER_TRY:
                return status, body
            failure = SourceSilent(self._said(path, status))
        assert failure is not None
        raise failure

    def _once(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        host, port = _place(self.endpoint)
        connection = http.client.HTTPConnection(host, port, timeout=self.timeout)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            body = response.read(_MAX_BYTES + 1)
        finally:
            connection.close()
        if len(body) > _MAX_BYTES:
            raise IdentityError(f"{self._where(path)} answered with more than {_MAX_BYTES} bytes")
        return response.status, body

    def _where(self, path: str) -> str:
        return f"the metadata service ({self.endpoint}{path})"

    def _said(self, path: str, status: int) -> str:
        hint = ""
        if status in (401, 403):
            hint = ": is the instance's metadata service switched off, or a proxy in between?"
        elif status == 404:
            hint = ": it does not speak IMDSv2; is something else answering there?"
        return f"{self._where(path)} answered {status}{hint}"


def _configured_endpoint() -> str:
    endpoint = os.environ.get(ENDPOINT_VARIABLE, "").strip()
    if endpoint:
        return endpoint
    ipv6 = os.environ.get(ENDPOINT_MODE_VARIABLE, "").lower() == "ipv6"
    return DEFAULT_ENDPOINT6 if ipv6 else DEFAULT_ENDPOINT


def _place(endpoint: str) -> tuple[str, int]:
    """Host and port of the endpoint; ValueError when it is not just that."""
    parts = urlsplit(endpoint)
    bare = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme != "http" or not parts.hostname or not bare or not endpoint.isprintable():
        raise ValueError(endpoint)
    if " " in endpoint:
        raise ValueError(endpoint)
    if parts.port == 0:
        raise ValueError(endpoint)
    parts.hostname.encode("idna")  # as the resolver will, which must not be where it fails
    return parts.hostname, parts.port or http.client.HTTP_PORT
