"""Identity from EC2's instance metadata (IMDSv2). An error is never read as "there is none".

A token first, its header on every request; what may be absent is absent only when the service says
404 to a request whose neighbours it answers. No proxy is asked, whatever the environment says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from neti.errors import IdentityError
from neti.identity.imds import MetadataClient
from neti.identity.source import Identity
from neti.registry.entry import HOST_ID

_META: Final = "/latest/meta-data/"
_MAC: Final = frozenset("0123456789abcdef:")
_VPC_ID: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


@dataclass(frozen=True, slots=True)
class Ec2Source:
    client: MetadataClient

    def read(self) -> Identity:
        host_id = self._required("instance-id", _host_id)
        private = self._required("local-ipv4", _ipv4)
        mac = self._required("mac", _mac)
        interface = f"network/interfaces/macs/{mac}/"
        listing = self._required(interface, str.split)
        public = self._optional("public-ipv4", _ipv4)
        return Identity(
            id=host_id,
            private=private,
            public=public,
            ipv6=self._listed(listing, f"{interface}ipv6s", _ipv6s) or (),
            vpc_id=self._listed(listing, f"{interface}vpc-id", _vpc_id),
        )
