"""One conversation with the instance metadata service, version 2: a token, then plain GETs.

Never asks a proxy (http.client knows of none), never follows a redirect, never reads more than
64 KiB, never waits without end, and never takes a failure for "not there": only a 404 is that.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from neti.errors import IdentityError
from neti.identity.source import SourceSilent

ENDPOINT_VARIABLE: Final = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
ENDPOINT_MODE_VARIABLE: Final = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"
_ENDPOINTS: Final = {"ipv4": "http://169.254.169.254", "ipv6": "http://[fd00:ec2::254]"}

_TOKEN_PATH: Final = "/latest/api/token"
_TOKEN_SECONDS: Final = 300  # one conversation takes seconds; 21,600 is the most one can ask for
_MAX_BYTES: Final = 64 * 1024
_PAUSES: Final = (0.2, 0.5, 1.0)
_NOT_ANSWERING: Final = frozenset({408, 429, *range(500, 600)})


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes


@dataclass(slots=True, kw_only=True)
class MetadataClient:
    """``pauses``: the waits between attempts, so their number plus one is the attempts.

    Its token is for one conversation: make a new client to look again.
    """

    endpoint: str
    timeout: float = 2.0
    pauses: tuple[float, ...] = _PAUSES
    sleep: Callable[[float], None] = time.sleep
    _token: str | None = field(default=None, repr=False)

    def get(self, path: str) -> str | None:
        """The text at the path; None for 404. Raises IdentityError or SourceSilent."""
        answer = self._with_token(path)
        if answer.status == 401:  # the token ran out, or the service has forgotten it
            self._token = None
            answer = self._with_token(path)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise IdentityError(
                f"the metadata service at {self.endpoint} answered {answer.status} to GET {path}"
                f"{_advice(answer.status)}"
            )
        return _text(answer.body, path)

    def _with_token(self, path: str) -> _Answer:
        if self._token is None:
            self._token = self._new_token()
        return self._ask("GET", path, {"X-aws-ec2-metadata-token": self._token})

    def _new_token(self) -> str:
        seconds = str(_TOKEN_SECONDS)
        answer = self._ask("PUT", _TOKEN_PATH, {"X-aws-ec2-metadata-token-ttl-seconds": seconds})
        if answer.status != 200:
            raise IdentityError(
                f"the metadata service at {self.endpoint} answered {answer.status} to PUT "
                f"{_TOKEN_PATH}{_advice(answer.status)}"
            )
        token = _text(answer.body, _TOKEN_PATH)
        # It goes into a header: anything but one printable word is not a token.
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise IdentityError(
                f"the metadata service at {self.endpoint} gave no token but {_shown(token)}: "
                "is something else answering there?"
            )
        return token

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> _Answer:
        seen = ""
        for pause in (*self.pauses, None):
            try:
                answer = self._once(method, path, headers)
            except _Broken as error:
                seen = str(error)
            else:
                if answer.status not in _NOT_ANSWERING:
                    return answer
                seen = f"status {answer.status}"
            if pause is not None:
                self.sleep(pause)
        raise SourceSilent(
            f"the metadata service at {self.endpoint} did not answer {method} {path} in "
            f"{len(self.pauses) + 1} attempts (last: {seen}): outside EC2, write identity: "
            "{id: ..., private: ...}"
        )

    def _once(self, method: str, path: str, headers: Mapping[str, str]) -> _Answer:
        import http.client

        host, port, base = _parts(self.endpoint)
        connection = http.client.HTTPConnection(host, port, timeout=self.timeout)
        try:
            connection.request(method, base + path, headers=dict(headers))
            response = connection.getresponse()
            body = response.read(_MAX_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(f"{type(error).__name__}: {error}".rstrip(": ")) from error
        finally:
            connection.close()
        if len(body) > _MAX_BYTES:
            raise IdentityError(
                f"the metadata service at {self.endpoint} answered {method} {path} with more than "
                f"{_MAX_BYTES >> 10} KiB: is something else answering there?"
            )
        return _Answer(response.status, body)


class _Broken(Exception):
    """No answer came, or half of one."""


def endpoint(environment: Mapping[str, str]) -> str:
    """The service's address, overridable as in the AWS SDKs. IdentityError when it is none."""
    mode = environment.get(ENDPOINT_MODE_VARIABLE, "").lower() or "ipv4"
    found = environment.get(ENDPOINT_VARIABLE, "").strip()
    if not found:
        if mode not in _ENDPOINTS:
            raise IdentityError(f"{ENDPOINT_MODE_VARIABLE} is {mode!r}: expected IPv4 or IPv6")
        return _ENDPOINTS[mode]
    try:
        _parts(found)
    except ValueError:
        raise IdentityError(
            f"{ENDPOINT_VARIABLE} is {_shown(found)}: expected a URL such as {_ENDPOINTS['ipv4']}"
        ) from None
    return found.rstrip("/")


def _parts(url: str) -> tuple[str, int, str]:
    split = urlsplit(url)
    if split.scheme != "http" or not split.hostname or not url.isprintable() or " " in url:
        raise ValueError(url)
    return split.hostname, split.port or 80, split.path.rstrip("/")


def _text(body: bytes, path: str) -> str:
    try:
        return body.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise IdentityError(
            f"the metadata service answered {path} with bytes that are no text "
            f"({_shown(body[:20].decode('latin-1'))})"
        ) from None


def _advice(status: int) -> str:
    match status:
        case 401:
            return ", to a fresh token too: it cannot be asked who this host is"
        case 403:
            return ": the metadata service is switched off for this instance, or a proxy is between"
        case 404 | 405:
            return ": it does not speak IMDSv2"
    return ""


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
