"""Neti's basic values, frozen: Site, Host, Member. Standard library only, no I/O."""

import enum
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

IPAddress = IPv4Address | IPv6Address


class Reach(enum.Enum):
    """Which of a member's addresses other sites use."""

    PUBLIC = "public"
    PRIVATE = "private"
    GATEWAY = "gateway"  # its own public one where it has one, otherwise through a gateway


class Encrypt(enum.Enum):
    """What is between a site and the others; the stricter side of a pair of sites decides."""

    OFF = "off"
    PREFER = "prefer"
    REQUIRE = "require"

    @property
    def encrypts(self) -> bool:
        return self is not Encrypt.OFF

    def stricter(self, other: "Encrypt") -> "Encrypt":
        # Without asking the class for its order: whoever starts asks some times for each member.
        for word in (Encrypt.REQUIRE, Encrypt.PREFER):
            if self is word or other is word:
                return word
        return Encrypt.OFF


class Road(enum.Enum):
    """By which road this host reaches a member, and lets it in."""

    __hash__ = object.__hash__  # an enum's own is in Python, and each member's road is looked up

    PLAIN = "plain"  # in the clear: nobody asks for more, or it has no key and that is allowed
    TRYING = "trying"  # in the clear until the first handshake; let in by both roads
    PREFERRED = "preferred"  # encrypted; let in by both roads
    REQUIRED = "required"  # encrypted, and nothing else
    NONE = "none"  # encryption is required and the member has no key: neither reached nor let in


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One network. If ``private``, ``public`` or ``ipv6`` is empty, any such address is allowed."""

    name: str
    private: tuple[IPv4Network, ...] = ()
    public: tuple[IPv4Network, ...] = ()
    ipv6: tuple[IPv6Network, ...] = ()
    vpc_ids: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()  # of Google and Azure, in lower case
    reached_by: Reach = Reach.PUBLIC
    gateways: tuple[str, ...] = ()  # ids of its members that pass on; with Reach.GATEWAY only
    mtu: int | None = None  # MTU of the path to it; None: 1500, by the internet
    encrypt: Encrypt = Encrypt.OFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Who this machine is, as ``identity`` determined. ``more``: IPv6 and configured
    ``addresses``."""

    id: str
    site: str
    private: IPv4Address
    public: IPv4Address | None
    more: tuple[IPAddress, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A host in the registry. ``generation`` counts its address changes from 0; highest wins.

    ``extended``: the entry's data contain further addresses, which are in ``more`` once read.
    """

    id: str
    site: str
    private: IPv4Address
    public: IPv4Address | None
    overlay: IPv4Address
    generation: int = 0
    extended: bool = False
    more: tuple[IPAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class Departure:
    """A member says that it leaves on purpose: it then counts as *left*, not *lost*."""

    id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Moved:
    """An operator has moved a lease to this id: whoever it concerns looks it up."""

    overlay: IPv4Address
    id: str
