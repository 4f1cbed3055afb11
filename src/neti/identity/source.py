"""A source of identity: its protocol and its answer. Values only, no I/O."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from neti.errors import IdentityError


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """This machine as its source describes it, before its site is decided.

    ``vpc_id`` None: the source said that there is no VPC. Not knowing is an error. ``networks``:
    names by which a site of the configuration may call this machine's network. ``cloud``: whose
    metadata service said so; empty: nobody's.
    """

    id: str
    private: IPv4Address
    public: IPv4Address | None = None
    ipv6: tuple[IPv6Address, ...] = ()
    vpc_id: str | None = None
    networks: tuple[str, ...] = ()
    cloud: str = ""


class IdentitySource(Protocol):
    """Raises IdentityError; SourceSilent when asking again later may help."""

    def read(self) -> Identity: ...


class SourceSilent(IdentityError):
    """The source did not answer. Only then may an earlier answer be used."""


class NotThisCloud(IdentityError):
    """Something answered, but not this cloud's metadata service."""
