"""Identity from EC2's instance metadata (IMDSv2). An error is never read as "there is none".

Something counts as absent only when the service says 404 to it and answers the requests around it.
No proxy is used, whatever the environment says.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeVar

from neti.errors import IdentityError
from neti.identity.imds import MetadataClient
from neti.identity.source import Identity
from neti.model.entry import HOST_ID

_T = TypeVar("_T")
_META: Final = "/latest/meta-data/"
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
_VPC_ID: Final = re.compile(r"vpc-[0-9a-f]{1,32}", re.ASCII)
_LISTED: Final = re.compile(r"[a-z0-9-]+/?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Ec2Source:
    client: MetadataClient

    def read(self) -> Identity:
        host_id = self._required("instance-id", _host_id)
        private = self._required("local-ipv4", _ipv4)
        mac = self._required("mac", _mac)
        interface = f"network/interfaces/macs/{mac}/"
        listing = self._required(interface, _listing)
        public = self._optional("public-ipv4", _ipv4)
        return Identity(
            id=host_id,
            private=private,
            public=public,
            ipv6=self._listed(listing, f"{interface}ipv6s", _ipv6s) or (),
            vpc_id=self._listed(listing, f"{interface}vpc-id", _vpc_id),
            cloud="ec2",
        )

    def _required(self, path: str, read: Callable[[str], _T]) -> _T:
        value = self._optional(path, read)
        if value is None:
            raise IdentityError(
                f"the metadata service ({self.client.endpoint}) has no {path}. Is this an EC2 "
                "instance? Elsewhere, write identity: {id: …, private: …}"
            )
        return value

    def _optional(self, path: str, read: Callable[[str], _T]) -> _T | None:
        text = self.client.get(_META + path)
        if text is None:
            return None
        try:
            return read(text)
        except ValueError as error:
            raise IdentityError(
                f"the metadata service ({self.client.endpoint}) says that {path} is "
                f"{text[:60]!r}, which is {error}"
            ) from error

    def _listed(self, listing: frozenset[str], path: str, read: Callable[[str], _T]) -> _T | None:
        """What the interface's listing names is required; what it does not name is absent."""
        if path.rpartition("/")[2] not in listing:
            return None
        return self._required(path, read)


def _host_id(text: str) -> str:
    if not HOST_ID.fullmatch(text):
        raise ValueError("not a host id")
    return text


def _ipv4(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError as error:
        raise ValueError("not an IPv4 address") from error


def _ipv6s(text: str) -> tuple[IPv6Address, ...]:
    try:
        return tuple(IPv6Address(line) for line in text.split())
    except ValueError as error:
        raise ValueError("not a list of IPv6 addresses") from error


def _listing(text: str) -> frozenset[str]:
    """An interface's listing. A server that answers everything with a web page must not be read as
    "no VPC id". So all lines must look like names, and one that every interface has must be
    there."""
    names = text.split("\n")
    if "local-ipv4s" not in names or not all(_LISTED.fullmatch(name) for name in names):
        raise ValueError("not an interface's listing")
    return frozenset(names)


def _mac(text: str) -> str:
    if not _MAC.fullmatch(text):
        raise ValueError("not a MAC address")
    return text


def _vpc_id(text: str) -> str:
    if not _VPC_ID.fullmatch(text):
        raise ValueError("no VPC id")
    return text
