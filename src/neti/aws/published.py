"""AWS's own address ranges, as it publishes them: fetched, read, chosen from.

Only ``fetch`` uses the network, with a time-out and a size limit, and only over https (plain http
to this machine itself, for a mirror in a test).
"""

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final
from urllib.parse import urlsplit

from neti.aws.troubles import of_authority
from neti.errors import NetiError
from neti.host import authorities
from neti.model.settings import IPNetwork

URL: Final = "https://ip-ranges.amazonaws.com/ip-ranges.json"
_SECONDS: Final = 20.0
_MAX_BYTES: Final = 32 * 1024 * 1024
_KINDS: Final = (("prefixes", "ip_prefix"), ("ipv6_prefixes", "ipv6_prefix"))


@dataclass(frozen=True, slots=True)
class Entry:
    network: IPNetwork
    region: str
    service: str
    border_group: str


@dataclass(frozen=True, slots=True)
class Published:
    created: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Empty ``regions`` or ``border_groups`` mean all of them."""

    services: Collection[str]
    regions: Collection[str] = ()
    border_groups: Collection[str] = ()

    def __str__(self) -> str:
        words = [*self.services, *(self.regions or ("all regions",)), *self.border_groups]
        return " ".join(words)


def fetch(url: str = URL) -> bytes:
    place = urlsplit(url)
    if place.scheme != "https" and not (place.scheme == "http" and _is_here(place.hostname)):
        raise NetiError(f"{url} is not an https URL: AWS's ranges are fetched over https only")
    context = authorities.context() if place.scheme == "https" else None
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS, context=context) as answer:
            if urlsplit(answer.url).scheme != place.scheme:
                raise NetiError(f"{url} redirects to {answer.url}, which is not {place.scheme}")
            content: bytes = answer.read(_MAX_BYTES + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        hint = ""
        if isinstance(reason, ssl.SSLCertVerificationError):
            reason, hint = f"its certificate: {reason.verify_message}", of_authority(str(reason))
        raise NetiError(
            f"{url} cannot be fetched ({reason}){hint}. Download it elsewhere and give it with "
            "--file"
        ) from error
    if len(content) > _MAX_BYTES:
        raise NetiError(f"{url} is longer than {_MAX_BYTES} bytes, so it cannot be AWS's file")
    return content


def parse(content: bytes, name: str) -> Published:
    """NetiError, with what is wrong, when it is not a complete file of that kind."""
    try:
        document = json.loads(content)
        entries = [_entry(item, key) for part, key in _KINDS for item in _items(document, part)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NetiError(
            f"{name} is not AWS's ip-ranges.json ({type(error).__name__}: {error}): "
            f"fetch it from {URL}"
        ) from error
    return Published(str(document.get("createDate", "?")), tuple(entries))


def choose(published: Published, choice: Choice, family: int) -> list[IPNetwork]:
    """The chosen ranges of one family; NetiError when a filter matches nothing."""
    entries = published.entries
    _refuse_unknown("service", choice.services, {e.service for e in entries})
    _refuse_unknown("region", choice.regions, {e.region for e in entries})
    _refuse_unknown("border group", choice.border_groups, {e.border_group for e in entries})
    return [
        entry.network
        for entry in entries
        if entry.network.version == family
        and entry.service in choice.services
        and (not choice.regions or entry.region in choice.regions)
        and (not choice.border_groups or entry.border_group in choice.border_groups)
    ]


def _items(document: Any, part: str) -> list[Mapping[str, Any]]:
    items = document[part]
    if not isinstance(items, list):
        raise TypeError(f"{part} is not a list")
    return items


def _entry(item: Mapping[str, Any], key: str) -> Entry:
    words = [item[word] for word in ("region", "service", "network_border_group")]
    if not all(isinstance(word, str) for word in words):
        raise TypeError(f"an entry of {key} has a field that is not a string")
    return Entry(ip_network(item[key]), *words)


def _refuse_unknown(what: str, asked: Collection[str], there: Collection[str]) -> None:
    for word in asked:
        if word not in there:
            raise NetiError(
                f"AWS's ranges have no {what} {word!r}: expected one of {', '.join(sorted(there))}"
            )


def _is_here(host: str | None) -> bool:
    try:
        return host is not None and ip_address(host).is_loopback
    except ValueError:
        return False
