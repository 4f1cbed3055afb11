"""May this entry be believed? Pure checks of one member's addresses against the configuration.

Entries are untrusted: whoever can write to the registry can write anything. A member that fails a
check is skipped and named, and never affects another. Whose lease an overlay address is, and who
else claims it, is judged in ``neti.fleet.dispute``, which sees all of them.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Self

from neti.model import IPAddress, Member, Site
from neti.model.addresses import NEVER_A_HOST4, embeds_ipv4

_GLOBAL_UNICAST6: Final = IPv6Network("2000::/3")  # RFC 4291
_UNIQUE_LOCAL6: Final = IPv6Network("fc00::/7")  # RFC 4193
_INSTANCE_SERVICES6: Final = IPv6Network("fd00:ec2::/32")  # EC2's metadata, time and DNS


@dataclass(frozen=True, slots=True)
class _Range:
    """A network as whole numbers: whoever starts in a fleet of thousands compares them by the
    hundred thousand, and ``address in network`` takes ten times as long."""

    first: int
    last: int
    network: IPv4Network

    @classmethod
    def of(cls, network: IPv4Network) -> Self:
        first = int(network.network_address)
        return cls(first, first + network.num_addresses - 1, network)


_NEVER4: Final = tuple(sorted(map(_Range.of, NEVER_A_HOST4), key=lambda each: each.first))
_NEVER4_FROM: Final = tuple(each.first for each in _NEVER4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """``reserved``: addresses that no member may claim, such as those of the registry's servers.
    ``own_site``: the site to which these apply; if ranges overlap, a host of another site may well
    have one of them as its private address. None: they apply everywhere. ``reserved_in``: for those
    who judge for all sites at once: by site, what no member of it may claim as private."""

    sites: Mapping[str, Site]
    overlay_subnet: IPv4Network
    reserved: frozenset[IPAddress] = frozenset()
    own_site: str | None = None
    reserved_in: Mapping[str, frozenset[IPAddress]] = field(default_factory=dict)
    # By site, its private and its public ranges.
    _ranges: dict[str, tuple[tuple[_Range, ...], tuple[_Range, ...]]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _overlay: _Range = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_overlay", _Range.of(self.overlay_subnet))
        for name, site in self.sites.items():
            private, public = (tuple(map(_Range.of, each)) for each in (site.private, site.public))
            self._ranges[name] = private, public

    def objection(self, member: Member) -> str | None:
        """Why this member is not believed, in a few words; None when it may be."""
        site = self.sites.get(member.site)
        if site is None:
            return f"site {member.site!r} is not configured here"
        overlay, subnet = int(member.overlay), self._overlay
        if not subnet.first < overlay < subnet.last:
            outside = not subnet.first <= overlay <= subnet.last
            what = "is outside" if outside else "is reserved in"
            return f"overlay address {member.overlay} {what} {self.overlay_subnet}"
        private, public = self._ranges[member.site]
        here = self.own_site is None or member.site == self.own_site
        if fault := self._fault4(member.private, private, site, "private", reserved=here):
            return f"private {fault}"
        if self.reserved_in and member.private in self.reserved_in.get(site.name, ()):
            return f"private address {member.private} belongs to the registry's servers"
        if member.public is not None and (
            fault := self._fault4(member.public, public, site, "public")
        ):
            return f"public {fault}"
        return None

    def believed(self, member: Member, more: tuple[IPAddress, ...]) -> tuple[IPAddress, ...]:
        """Those of the further addresses that may be let in."""
        site = self.sites[member.site]
        # A further address may be private or public, so if one of these has no ranges, any will do.
        private, public = self._ranges[member.site]
        ranges = (*private, *public) if private and public else ()
        return tuple(
            address
            for address in more
            if (
                self._fault4(address, ranges, site, "") is None
                if isinstance(address, IPv4Address)
                else self._fits6(address, site.ipv6)
            )
        )

    def _fits6(self, address: IPv6Address, ranges: tuple[IPv6Network, ...]) -> bool:
        if address in self.reserved or address in _INSTANCE_SERVICES6:
            return False
        if embeds_ipv4(address) is not None:
            return False
        if ranges:
            return any(address in network for network in ranges)
        return address in _GLOBAL_UNICAST6 or address in _UNIQUE_LOCAL6

    def _fault4(
        self,
        address: IPv4Address,
        ranges: tuple[_Range, ...],
        site: Site,
        which: str,
        *,
        reserved: bool = True,
    ) -> str | None:
        value, subnet = int(address), self._overlay
        never = _NEVER4[bisect_right(_NEVER4_FROM, value) - 1]
        if never.first <= value <= never.last:
            return f"address {address} is in {never.network}, which is no host's"
        if subnet.first <= value <= subnet.last:
            return f"address {address} is inside the overlay subnet {self.overlay_subnet}"
        if reserved and self.reserved and address in self.reserved:
            return f"address {address} belongs to the registry's servers"
        for each in ranges:
            if each.first <= value <= each.last:
                return None
        return f"address {address} is outside site {site.name}'s {which} ranges" if ranges else None
