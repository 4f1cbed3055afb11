"""What one member means to this host: where its overlay address leads, and who is let in. Pure.

When a member changes, its few elements change and nothing else.

Must never do: let in an address from which the member cannot reach this host.
"""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Final, NamedTuple

from neti.model import Encrypt, Host, IPAddress, Member, Reach, Road, Site
from neti.model.addresses import dotted
from neti.ruleset.objects import SPARED
from neti.ruleset.set_names import SetName

# Metadata and time of EC2 (both families), Google, Azure; Azure's DNS, DHCP and health probes.
METADATA: Final = (
    IPv4Address("169.254.169.254"),
    IPv4Address("169.254.169.253"),
    IPv4Address("169.254.169.123"),
    IPv4Address("168.63.129.16"),
    IPv6Address("fd00:ec2::254"),
    IPv6Address("fd00:ec2::253"),
    IPv6Address("fd00:ec2::123"),
    IPv6Address("fd20:ce::254"),
)
_METADATA_TEXT: Final = frozenset(map(str, METADATA))
_WITH_PEER: Final = frozenset({Road.TRYING, Road.PREFERRED, Road.REQUIRED})
_THROUGH: Final = frozenset({Road.PREFERRED, Road.REQUIRED})
_NOT_IN_THE_CLEAR: Final = frozenset({Road.REQUIRED, Road.NONE})
PUBLIC_ROAD_MTU: Final = 1500  # the internet's, even if a site's own network carries more


class Element(NamedTuple):
    where: SetName
    key: str
    value: str = ""


def elements_of(
    member: Member, *, host: Host, sites: Mapping[str, Site], road: Road = Road.PLAIN
) -> Iterator[Element]:
    """What ``member`` means to ``host``: where its overlay address leads and who is let in.

    A member without an address that this host could reach gets no overlay element: its overlay
    address is then refused at once, like one that nobody holds. One that is reached through the
    tunnel only gets no real address at all.
    """
    if member.id == host.id:
        return  # see own_elements: what the registry says of this host changes nothing here
    if road in _WITH_PEER:
        yield Element("tunnel_peers", dotted(member.overlay))
    if road in _THROUGH:
        yield Element("tunneled", dotted(member.overlay))
    yield from _never_in_the_clear(member, host=host, sites=sites)
    if road in _NOT_IN_THE_CLEAR:
        return
    site = sites.get(member.site)
    near = member.site == host.site
    target = cross_address(member, host=host, sites=sites)
    if target is not None:
        yield Element("overlay", dotted(member.overlay), dotted(target))
    ranges = () if near else clamped_ranges(site)
    clamped = not near and road_mtu(site, sites.get(host.site)) is not None
    for address in admitted_addresses(member, host=host, sites=sites):
        if isinstance(address, IPv6Address):
            yield Element("peers6", str(address))
            if clamped:
                yield Element("across6", str(address))
        else:
            key = dotted(address)
            yield Element("peers4", key)
            if clamped and not any(address in network for network in ranges):
                yield Element("across4", key)


def _never_in_the_clear(
    member: Member, *, host: Host, sites: Mapping[str, Site]
) -> Iterator[Element]:
    """By which addresses nothing may go where encryption is required, whatever its road is now: the
    rules look at them only while it is. Not by those that are the own site's by its ranges, which
    another site's member may claim as well."""
    if member.site == host.site:
        yield from _of_own_site(member, host=host, sites=sites)
        return
    if encryption(sites.get(host.site), sites.get(member.site)) is not Encrypt.REQUIRE:
        return
    for address in admitted_addresses(member, host=host, sites=sites):
        six = isinstance(address, IPv6Address)
        yield Element("clear6" if six else "clear4", str(address))


def _of_own_site(member: Member, *, host: Host, sites: Mapping[str, Site]) -> Iterator[Element]:
    if not any(site.encrypt is Encrypt.REQUIRE for site in sites.values()):
        return
    for address in admitted_addresses(member, host=host, sites=sites):
        if not _is_of_its_site(address, member, sites.get(member.site)):
            continue  # anybody could claim it, and have what goes there sent in the clear
        six = isinstance(address, IPv6Address)
        yield Element("clear6" if six else "clear4", str(address), SPARED)
    for outside in outside_addresses(member, sites=sites):
        yield Element("outside4", str(outside))


def _is_of_its_site(address: IPAddress, member: Member, site: Site | None) -> bool:
    """Its private address is: members of other sites are not let in by theirs, except where a link
    joins the sites, whose ranges do not overlap."""
    if address == member.private:
        return True
    if site is None:
        return False
    ranges = site.ipv6 if isinstance(address, IPv6Address) else (*site.private, *site.public)
    return any(address in network for network in ranges)


def outside_addresses(member: Member, *, sites: Mapping[str, Site]) -> Iterator[IPv4Address]:
    """The addresses of a member that its own site needs not: what comes from them has been outside
    of the site, where anybody could have sent it. IPv6 has the same addresses inside and outside.
    """
    site = sites.get(member.site)
    private = site.private if site is not None else ()
    public = (member.public,) if member.public is not None else ()
    # Without ranges there is no telling what a further address is.
    for address in (*public, *(member.more if private else ())):
        if isinstance(address, IPv6Address) or address == member.private:
            continue
        if not any(address in network for network in private):
            yield address


def own_elements(host: Host, overlay: IPv4Address) -> Iterator[Element]:
    """A host reaches itself by its own overlay address."""
    yield Element("overlay", str(overlay), str(host.private))


def cross_address(member: Member, *, host: Host, sites: Mapping[str, Site]) -> IPv4Address | None:
    """The real address by which ``host`` reaches ``member``; None when there is none."""
    if member.id == host.id:
        return None
    return member.private if _by_private(member, host, sites) else member.public


def _by_private(member: Member, host: Host, sites: Mapping[str, Site]) -> bool:
    return member.site == host.site or by_link(sites.get(host.site), sites.get(member.site))


def by_link(own: Site | None, other: Site | None) -> bool:
    """Whether ``own`` reaches members of ``other``, another site, by private address. A link
    carries both directions, so where ``other`` has gateways, ``own`` may say that there is one."""
    if other is None:
        return False
    if other.reached_by is Reach.GATEWAY:
        return own is not None and own.reached_by is Reach.PRIVATE
    return other.reached_by is Reach.PRIVATE


def by_gateways(own: Site | None, other: Site | None) -> bool:
    """Whether what goes between two sites may have to pass a gateway. Then nothing goes between
    them in the clear: gateways pass on WireGuard's packets only."""
    reached = {site.reached_by for site in (own, other) if site is not None}
    return own is not other and Reach.GATEWAY in reached and Reach.PRIVATE not in reached


def uses_gateways(sites: Mapping[str, Site], own: str) -> bool:
    """Whether that is so between the site ``own`` and any other one."""
    here = sites.get(own)
    # A site that is not configured may turn up as well.
    others: list[Site | None] = [site for site in sites.values() if site is not here]
    return any(by_gateways(here, other) for other in (*others, None))


def only_encrypted(own: Site | None, other: Site | None, *, requires: bool) -> bool:
    """Whether nothing may go between two sites in the clear, or nothing can. ``requires``: what
    sites require is in force on this host."""
    required = requires and encryption(own, other) is Encrypt.REQUIRE
    return required or by_gateways(own, other)


def admitted_addresses(
    member: Member, *, host: Host, sites: Mapping[str, Site]
) -> Iterator[IPAddress]:
    """The addresses from which ``member`` can come to ``host``, and is let in. Another site's
    private address is not among them: here it may be somebody else's, as private ranges overlap."""
    site = sites.get(member.site)
    by_private = _by_private(member, host, sites)
    if by_private:
        yield member.private
    if member.public is not None:
        yield member.public
    for address in member.more:
        if isinstance(address, IPv6Address) or (
            by_private or site is None or not any(address in n for n in site.private)
        ):
            yield address


def encryption(own: Site | None, other: Site | None) -> Encrypt:
    """What is between two sites; None: one that is not configured. The stricter side decides."""
    if own is not None and other is not None and own.name == other.name:
        return Encrypt.OFF
    here = own.encrypt if own is not None else Encrypt.OFF
    return here.stricter(other.encrypt if other is not None else Encrypt.OFF)


def encrypts(sites: Mapping[str, Site], own: str) -> bool:
    """Whether the site ``own`` and any other one encrypt what goes between them."""
    here = sites.get(own)
    # A site that is not configured may turn up as well.
    others: list[Site | None] = [site for site in sites.values() if site is not here]
    return any(encryption(here, other).encrypts for other in (*others, None))


def requires(sites: Mapping[str, Site], own: str) -> bool:
    """Whether the site ``own`` and any other one are to send each other nothing in the clear, once
    it is confirmed."""
    here = sites.get(own)
    alone = here is not None and here.encrypt is Encrypt.REQUIRE
    return alone or bool(requiring(sites, own))


def requiring(sites: Mapping[str, Site], own: str) -> frozenset[str]:
    """The other sites of those pairs."""
    here = sites.get(own)
    return frozenset(
        name
        for name, site in sites.items()
        if name != own and encryption(here, site) is Encrypt.REQUIRE
    )


def requires_everywhere(sites: Mapping[str, Site], own: str) -> bool:
    """Whether that is so of each other site that is configured."""
    return requiring(sites, own) == sites.keys() - {own}


def road_without_key(
    member: Member, *, host: Host, sites: Mapping[str, Site], requires: bool = True
) -> Road:
    """The road of a member of which nothing else is known: never one that was not allowed.
    ``requires``: what sites require is in force on this host."""
    if member.site == host.site:
        return Road.PLAIN
    own, other = sites.get(host.site), sites.get(member.site)
    return Road.NONE if only_encrypted(own, other, requires=requires) else Road.PLAIN


def road_mtu(site: Site | None, own: Site | None) -> int | None:
    """The MTU of the road to another site; None: the uplink's, as far as we know."""
    across = site.mtu if site is not None else None
    if across is None and (site is None or site.reached_by is not Reach.PRIVATE):
        across = PUBLIC_ROAD_MTU
    here = own.mtu if own is not None else None
    if across is None or here is None:
        return here if across is None else across
    return min(across, here)


def clamped_ranges(site: Site | None) -> tuple[IPv4Network, ...]:
    """The ranges from which this site's members come to other sites. A rule covers a range, so
    these members need no element each."""
    if site is None:
        return ()
    return site.private if site.reached_by is Reach.PRIVATE else site.public


def never_revoked(
    host: Host, own: Iterable[IPAddress], others: Iterable[IPAddress]
) -> frozenset[str]:
    """Addresses that must not become removed sources, even if a member claimed them and went.
    ``own``: this machine's. ``others``: gateways, resolvers, ZooKeeper's servers."""
    mine = (host.private, *((host.public,) if host.public is not None else ()), *host.more)
    return _METADATA_TEXT.union(map(str, (*mine, *own, *others)))
