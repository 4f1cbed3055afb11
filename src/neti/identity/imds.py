"""EC2's instance metadata service, version 2: gets a token, sends it with every request.

Only a 404 means "there is none". The caller must still check the text that is returned.

Must never raise anything but IdentityError because of an answer.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from neti.errors import IdentityError
from neti.identity.metadata import DEFAULT_ENDPOINT, Answer, MetadataHttp
from neti.identity.source import NotThisCloud

DEFAULT_ENDPOINT6: Final = "http://[fd00:ec2::254]"
ENDPOINT_VARIABLE: Final = "AWS_EC2_METADATA_SERVICE_ENDPOINT"  # as the AWS SDKs name it
ENDPOINT_MODE_VARIABLE: Final = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"
_TOKEN_PATH: Final = "/latest/api/token"
_TOKEN_SECONDS: Final = 300
# How another cloud's service answers to a PUT of this path.
_UNKNOWN_THERE: Final = frozenset({400, 404, 405})


@dataclass(slots=True)
class MetadataClient:
    """Not thread-safe. ``timeout``, ``patience``, ``sleep``: as of MetadataHttp."""

    endpoint: str = ""
    timeout: float = 2.0
    patience: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    _service: MetadataHttp = field(init=False, repr=False)
    _token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._service = MetadataHttp(
            self.endpoint or _configured_endpoint(),
            timeout=self.timeout,
            patience=self.patience,
            sleep=self.sleep,
            named=ENDPOINT_VARIABLE,
        )
        self.endpoint = self._service.endpoint

    def get(self, path: str) -> str | None:
        """The text at ``path``; None when the service says that there is none (404).

        Raises SourceSilent when it does not answer or keeps failing, NotThisCloud when it does not
        know of tokens, IdentityError when it refuses or its answer makes no sense.
        """
        if self._token is None:
            self._token = self._new_token()
        answer = self._get(path)
        if answer.status == 401:  # the token has expired: try once with a new one
            self._token = self._new_token()
            answer = self._get(path)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise IdentityError(self._service.said(path, answer.status))
        try:
            return answer.body.decode("ascii").strip()
        except UnicodeDecodeError as error:
            raise IdentityError(f"{self._service.where(path)} did not answer with text") from error

    def _get(self, path: str) -> Answer:
        return self._service.ask("GET", path, {"X-aws-ec2-metadata-token": self._token or ""})

    def _new_token(self) -> str:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
        answer = self._service.ask("PUT", _TOKEN_PATH, headers)
        if answer.status in _UNKNOWN_THERE:
            hint = ", so it does not speak IMDSv2. Is another service answering there?"
            raise NotThisCloud(self._service.said(_TOKEN_PATH, answer.status, hint))
        if answer.status != 200:
            raise IdentityError(self._service.said(_TOKEN_PATH, answer.status))
        token = answer.body.decode("latin-1").strip()
        # It goes into a header, so it must be one printable word.
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise IdentityError(f"{self._service.where(_TOKEN_PATH)} did not answer with a token")
        return token


def _configured_endpoint() -> str:
    endpoint = os.environ.get(ENDPOINT_VARIABLE, "").strip()
    if endpoint:
        return endpoint
    ipv6 = os.environ.get(ENDPOINT_MODE_VARIABLE, "").lower() == "ipv6"
    return DEFAULT_ENDPOINT6 if ipv6 else DEFAULT_ENDPOINT
