"""One account in one region, as the rest of this package sees it: a place to call."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol, TypeVar

from neti.errors import NetiError

_T = TypeVar("_T")
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """``account``: how the operator named it (a profile, a role's ARN, or "default")."""

    account: str
    region: str

    def __str__(self) -> str:
        return f"{self.region} ({self.account})"


class Calls(Protocol):
    """Raises AwsRefused and AwsUnavailable, whose messages name the call and the place. Retries,
    and waits when throttled. Thread-safe."""

    @property
    def place(self) -> Place: ...

    @property
    def answered_at(self) -> float | None:
        """When it last answered, by AWS's own clock, in Unix seconds. None before that."""

    def call(
        self, operation: str, parameters: Mapping[str, Any], *, service: str = "ec2"
    ) -> dict[str, Any]: ...

    def pages(self, operation: str, parameters: Mapping[str, Any], key: str) -> Iterator[Any]:
        """Every item below ``key`` in every page."""


def everywhere(places: Sequence[Calls], read: Callable[[Calls], _T]) -> list[_T]:
    """Calls ``read`` for all places at the same time; the answers come in the order of the places.

    If one place fails, all of it fails: half an answer would look like a whole one.
    """
    if not places:
        raise NetiError("there is no account and region to ask")
    with ThreadPoolExecutor(min(_AT_ONCE, len(places))) as pool:
        return list(pool.map(read, places))


def date_of(answer: Mapping[str, Any]) -> float | None:
    """The answer's Date (RFC 9110, 6.6.1), in Unix seconds; None where it has none."""
    try:
        told = answer["ResponseMetadata"]["HTTPHeaders"]["date"]
        return parsedate_to_datetime(told).timestamp()
    except (KeyError, ValueError):
        return None
