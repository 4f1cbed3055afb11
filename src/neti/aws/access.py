"""The door to AWS: sessions, clients, retries, the SDK's errors as Neti's. Imports boto3 lazily.

Credentials come from the SDK's usual chain (environment, profile, role), never from Neti's own
code, except for the two keys of a 2014 configuration. Must never log or print a credential, and
must never use an SDK session from two threads at once.
"""

import functools
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from neti.aws.calls import Calls, Place, date_of
from neti.aws.patience import Waiting, watched
from neti.aws.refusals import CREDENTIALS_FROM, api_name, refusal, resource_of
from neti.aws.regions import first_region
from neti.aws.troubles import near, of_region, trouble
from neti.errors import NetiError
from neti.host import authorities
from neti.text import printable

if TYPE_CHECKING:
    import boto3
    import botocore.session

_CONNECT_SECONDS: Final = 5
_READ_SECONDS: Final = 30
_TRIES: Final = 8
_ROLE_SESSION: Final = "neti"
_ALL: Final = "all"
_REGION: Final = re.compile(r"[a-z]{2,8}(-[a-z]{2,12}){1,3}-\d{1,2}")
_ROLE_ARN: Final = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")


@dataclass(frozen=True, slots=True)
class Keys:
    """The two keys of a 2014 configuration."""

    access: str = field(repr=False)
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Account:
    """``profile``: the profile that the credentials come from, if any."""

    name: str
    session: "boto3.Session"
    profile: str | None = None


class SdkCalls:
    """``Calls`` through boto3. Clients are made on first use: each takes 0.1 s. ``waiting`` is told
    of slow calls, from any thread."""

    def __init__(
        self,
        account: _Account,
        region: str,
        *,
        tries: int = _TRIES,
        waiting: Waiting | None = None,
    ) -> None:
        self._session = account.session
        self._profile = account.profile
        self._waiting = waiting
        self._place = Place(account.name, region)
        self._tries = tries
        self._clients: dict[str, Any] = {}
        self._answered_at: float | None = None
        self._lock = threading.Lock()

    @property
    def place(self) -> Place:
        return self._place

    @property
    def answered_at(self) -> float | None:
        return self._answered_at

    def call(
        self, operation: str, parameters: Mapping[str, Any], *, service: str = "ec2"
    ) -> dict[str, Any]:
        with self._errors(service, operation, parameters):
            answer: dict[str, Any] = getattr(self._client(service), operation)(**parameters)
        self._answered_at = date_of(answer) or self._answered_at
        return answer

    def pages(self, operation: str, parameters: Mapping[str, Any], key: str) -> Iterator[Any]:
        with self._errors("ec2", operation, parameters):
            client = self._client("ec2")
            with _lock_of(self._session):  # it reads the model with the session's loader
                pages = iter(client.get_paginator(operation).paginate(**parameters))
        while True:
            with self._errors("ec2", operation, parameters):
                page = next(pages, None)
            if page is None:
                return
            self._answered_at = date_of(page) or self._answered_at
            yield from page.get(key, ())

    def _client(self, service: str) -> Any:
        from botocore.config import Config

        with self._lock:
            if service not in self._clients:
                config = Config(
                    connect_timeout=_CONNECT_SECONDS,
                    read_timeout=_READ_SECONDS,
                    retries={"mode": "standard", "total_max_attempts": self._tries},
                    user_agent_extra="neti",
                )
                client: Any = self._session.client  # typed per service name; we use several
                self._clients[service] = client(
                    service, region_name=self._place.region, config=config
                )
            return self._clients[service]

    @contextmanager
    def _errors(
        self, service: str, operation: str, parameters: Mapping[str, Any]
    ) -> Iterator[None]:
        from botocore import exceptions as sdk
        from botocore import xform_name

        where = f"AWS, {self._place}: {api_name(operation)}"
        try:
            with watched(where, self._waiting):
                yield
        except sdk.ClientError as error:
            told = error.response.get("Error", {})
            code, message = str(told.get("Code", "?")), str(told.get("Message", ""))
            # The refused call may be the SDK's own, for the role's credentials.
            called = xform_name(error.operation_name)
            called_at = CREDENTIALS_FROM.get(called, service)
            resource = resource_of(parameters, self._place.region) if called == operation else None
            raise refusal(self._place, called_at, called, code, message, resource) from error
        except sdk.EndpointConnectionError as error:
            hint = of_region(self._place.region, _regions(self._session))
            text = f"{error}{hint}"
            raise trouble(where, type(error).__name__, text, profile=self._profile) from error
        except Exception as error:  # the SDK lets any of its files' and programs' errors through
            answered = isinstance(error, sdk.HTTPClientError | sdk.ConnectionError)
            raise trouble(
                where, type(error).__name__, str(error), profile=self._profile, answered=answered
            ) from error


def open_places(
    *,
    profiles: Sequence[str] = (),
    roles: Sequence[str] = (),
    regions: Sequence[str] = (),
    keys: Keys | None = None,
    tries: int = _TRIES,
    waiting: Waiting | None = None,
) -> list[Calls]:
    """Every account in every region. The region "all" stands for those that are enabled in the
    account, which is asked; otherwise nothing is called yet.

    With ``roles``, each role is an account, assumed with the one profile or the usual chain.
    Otherwise each profile is an account; without profiles there is one, the usual chain's.
    """
    named = next((region for region in regions if region != _ALL), None)
    accounts = _accounts(profiles, roles, keys, named)
    places: list[Calls] = []
    for account in accounts:
        own = regions or _own_region(account)
        if not own:
            raise NetiError(
                f"no AWS region for the account {account.name}: give --region, AWS_REGION, or one "
                "in the profile"
            )
        for region in _meant(account, own, waiting):
            if _REGION.fullmatch(region) is None:
                meant = near(region, _regions(account.session)) or "us-east-1"
                raise NetiError(
                    f"{region!r} is not an AWS region. Set one such as {meant} with --region, "
                    "AWS_REGION or the profile"
                )
            places.append(SdkCalls(account, region, tries=tries, waiting=waiting))
    return places


def _meant(account: _Account, regions: Sequence[str], waiting: Waiting | None) -> list[str]:
    if _ALL not in regions:
        return list(dict.fromkeys(regions))
    own = _own_region(account)
    calls = SdkCalls(account, (*own, first_region(account.name))[0], waiting=waiting)
    try:
        answer = calls.call("describe_regions", {})
    except NetiError as error:
        if not own and ":" not in account.name:  # its partition is a guess
            hint = (
                "The profile has no region: for China or GovCloud, set one there or in AWS_REGION"
            )
            error.args = (f"{error}\n→ {hint}",)
        raise
    return sorted(region["RegionName"] for region in answer["Regions"])


def _own_region(account: _Account) -> tuple[str, ...]:
    """The account's region, or the environment's: boto3 reads only one of the two variables."""
    with _sdk(f"AWS profile {account.name}", account.profile):
        own: str | None = account.session.region_name
    found = own or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return (found,) if found else ()


def _regions(session: "boto3.Session") -> list[str]:
    """All regions that the SDK knows."""
    with _lock_of(session):
        partitions = session.get_available_partitions()
        return [
            region
            for partition in partitions
            for region in session.get_available_regions("ec2", partition_name=partition)
        ]


@contextmanager
def _sdk(where: str, profile: str | None) -> Iterator[None]:
    """Turns what the SDK raises while it makes a session into Neti's errors."""
    try:
        yield
    except NetiError:
        raise
    except Exception as error:  # the operator's files, programs and variables can raise anything
        raise trouble(where, type(error).__name__, str(error), profile=profile) from error


def _accounts(
    profiles: Sequence[str], roles: Sequence[str], keys: Keys | None, region: str | None
) -> list[_Account]:
    if roles and len(profiles) > 1:
        raise NetiError("--role-arn takes at most one --profile, the one that assumes the roles")
    for arn in roles:
        if _ROLE_ARN.fullmatch(arn) is None:
            raise NetiError(
                f"--role-arn {arn!r} is not a role's ARN: expected arn:aws:iam::ACCOUNT:role/NAME"
            )
    if not profiles:
        sessions = [_Account("default", _session(None, keys))]
    else:
        sessions = [_Account(name, _session(name, None), name) for name in dict.fromkeys(profiles)]
    if not roles:
        return sessions
    base, profile = sessions[0].session, sessions[0].profile
    made = []
    for arn in dict.fromkeys(roles):
        with _sdk(f"AWS role {arn}", profile):
            made.append(_Account(arn, _assumed(base, arn, region), profile))
    return made


def _session(profile: str | None, keys: Keys | None) -> "boto3.Session":
    try:
        import boto3
    except ImportError as error:
        raise NetiError(
            "boto3 (the AWS SDK) is not installed with Neti. Install it with 'pip install boto3' "
            "in Neti's virtual environment, 'pipx inject neti boto3', or 'uv tool install --with "
            "boto3' and Neti's wheel. The Debian package includes it"
        ) from error
    with _sdk(f"AWS profile {printable(profile)}" if profile else "AWS", profile):
        own = _session_class()()
        if keys is not None:
            return boto3.Session(
                aws_access_key_id=keys.access,
                aws_secret_access_key=keys.secret,
                botocore_session=own,
            )
        return boto3.Session(profile_name=profile, botocore_session=own)


@functools.cache
def _session_class() -> "type[botocore.session.Session]":
    """The SDK's session with a lock, because the SDK's own is not thread-safe.

    An account has one session, and its regions are asked at the same time. Credentials that refresh
    themselves also make a client, from within a call. When two threads resolve a profile's role at
    once, the SDK takes the second for a loop in the configuration.

    A thread that refreshes credentials may wait for this lock. So nothing that holds it may wait
    for a refresh. Making a client only reads the configuration.

    Its clients believe whom the host believes, a company's own authority too.
    """
    from botocore.session import Session

    class LockedSession(Session):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            self.lock = threading.RLock()
            super().__init__(*arguments, **more)

        def create_client(self, *arguments: Any, **more: Any) -> Any:
            with self.lock:
                told = more.get("verify") or self.get_config_variable("ca_bundle")
                more["verify"] = authorities.instead(told)
                return super().create_client(*arguments, **more)

        def get_credentials(self) -> Any:
            with self.lock:
                return super().get_credentials()

        def get_auth_token(self, **more: Any) -> Any:
            with self.lock:
                return super().get_auth_token(**more)

    return LockedSession


def _lock_of(session: "boto3.Session") -> threading.RLock:
    inner: Any = session._session  # private: there is no public way to its lock
    lock: threading.RLock = inner.lock
    return lock


def _assumed(base: "boto3.Session", arn: str, region: str | None) -> "boto3.Session":
    """A session that assumes the role on first use, and again before the credentials expire.

    ``region`` is where STS is asked; without it, the base session's region, or else
    the first of its partition.
    """
    import boto3
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

    source = base.get_credentials()
    if source is None:
        raise NetiError(f"there are no AWS credentials to assume {arn} with: give --profile NAME")
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=partial(
            base._session.create_client,
            region_name=region or base.region_name or first_region(arn),
        ),
        source_credentials=source,
        role_arn=arn,
        extra_args={"RoleSessionName": _ROLE_SESSION},
    )
    session: Any = _session_class()()
    # Private: the SDK has no public way to pass in credentials that refresh themselves.
    session._credentials = DeferredRefreshableCredentials(
        method="assume-role", refresh_using=fetcher.fetch_credentials
    )
    return boto3.Session(botocore_session=session, region_name=base.region_name)
