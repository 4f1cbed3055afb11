"""Identity from EC2's instance metadata. An error is never read as "there is none".

What may be absent is absent only when the service says so: a 404 for the public address, and a
listing of the network interface without it for the VPC id and IPv6.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeVar

from neti.errors import IdentityError
from neti.identity.imds import MetadataClient
from neti.identity.source import Identity
from neti.registry.entry import HOST_ID

_META: Final = "/latest/meta-data/"
_HEX: Final = frozenset("0123456789abcdef")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Ec2Source:
    client: MetadataClient

    def read(self) -> Identity:
        """This instance. IdentityError says what was seen; SourceSilent that nothing was."""
        host_id = self._required("instance-id", _host_id, "an instance id")
        private = self._required("local-ipv4", IPv4Address, "an IPv4 address")
        public = self._optional("public-ipv4", IPv4Address, "an IPv4 address")
        mac = self._required("mac", _mac, "a MAC address")
        interface = f"network/interfaces/macs/{mac}/"
        listed = self._required(interface, _listing, "a listing of the network interface")
        return Identity(
            id=host_id,
            private=private,
            public=public,
            ipv6=self._required(f"{interface}ipv6s", _ipv6s, "IPv6 addresses")
            if "ipv6s" in listed
            else (),
            vpc_id=self._required(f"{interface}vpc-id", _vpc_id, "a VPC id")
            if "vpc-id" in listed
            else None,
        )

    def _required(self, name: str, parse: Callable[[str], _T], what: str) -> _T:
        found = self._optional(name, parse, what)
        if found is None:
            raise IdentityError(
                f"the metadata service at {self.client.endpoint} has no {name}: every instance has "
                "one, so something else answers there"
            )
        return found

    def _optional(self, name: str, parse: Callable[[str], _T], what: str) -> _T | None:
        text = self.client.get(_META + name)
        if text is None:
            return None
        try:
            return parse(text)
        except ValueError:
            shown = text if len(text) <= 60 else f"{text[:57]}..."
            raise IdentityError(
                f"the metadata service at {self.client.endpoint} answered {shown!r} as {name}: "
                f"expected {what}"
            ) from None


def _host_id(text: str) -> str:
    if not HOST_ID.fullmatch(text):
        raise ValueError(text)
    return text


def _mac(text: str) -> str:
    parts = text.split(":")
    if len(parts) != 6 or not all(len(part) == 2 and _HEX.issuperset(part) for part in parts):
        raise ValueError(text)
    return text


def _vpc_id(text: str) -> str:
    kind, dash, number = text.partition("-")
    if kind != "vpc" or not dash or not number or not _HEX.issuperset(number) or len(text) > 40:
        raise ValueError(text)
    return text


def _listing(text: str) -> frozenset[str]:
    names = text.split("\n")
    # Whoever answers everything with a page would otherwise be believed to list no vpc-id.
    if not text or any(not name or name != name.strip() or "<" in name for name in names):
        raise ValueError(text)
    if "local-ipv4s" not in names:
        raise ValueError(text)
    return frozenset(names)


def _ipv6s(text: str) -> tuple[IPv6Address, ...]:
    return tuple(dict.fromkeys(IPv6Address(line.strip()) for line in text.splitlines()))
