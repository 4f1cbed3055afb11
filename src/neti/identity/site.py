"""Which site this host is in. Pure; never guesses: what cannot be decided is an error.

The first that applies: ``site`` in the configuration, the VPC id or another cloud's name for the
network, the private range with the longest prefix.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from neti.errors import IdentityError
from neti.identity.source import Identity
from neti.identity.static import StaticSource
from neti.model import Site
from neti.model.settings import Settings, StaticIdentity


@dataclass(frozen=True, slots=True)
class SiteDecision:
    site: str
    warning: str | None = None


def decide_site(settings: Settings, identity: Identity) -> SiteDecision:
    """The site. IdentityError says what was seen and what to write."""
    if settings.site is not None:
        decision = SiteDecision(settings.site)
    elif not settings.sites_configured:
        decision = _as_in_2014(settings, identity)
    elif identity.vpc_id is not None and any(site.vpc_ids for site in settings.sites.values()):
        decision = SiteDecision(_by_vpc(settings, identity.vpc_id))
    elif identity.networks and any(site.networks for site in settings.sites.values()):
        decision = SiteDecision(_by_network(settings, identity.networks))
    else:
        decision = SiteDecision(_by_range(settings, identity))
    _require_ranges(settings.sites[decision.site], identity)
    return decision


def site_by_file(settings: Settings) -> str | None:
    """The site, where the file alone tells it; None: the identity has to be asked for first. Raises
    IdentityError where the file tells that it cannot be decided."""
    if not isinstance(settings.identity, StaticIdentity):
        return settings.site
    return decide_site(settings, StaticSource(settings.identity).read()).site


def _as_in_2014(settings: Settings, identity: Identity) -> SiteDecision:
    if not isinstance(settings.identity, str) or identity.cloud not in ("", "ec2"):
        # Elsewhere, having no VPC says nothing about the site.
        raise IdentityError(
            f"this host is {identity.id}, but nothing says which site it is in. Write site: "
            f"{' or site: '.join(settings.sites)} in {settings.path}"
        )
    site = "ec2" if identity.vpc_id is None else "vpc"
    seen = "has no VPC id" if identity.vpc_id is None else f"has the VPC id {identity.vpc_id}"
    return SiteDecision(
        site,
        f"the site is {site} because the instance {seen}, as in 2014. Write sites: with vpc_ids, "
        f"or site: {site}, in {settings.path}",
    )


def _by_vpc(settings: Settings, vpc_id: str) -> str:
    for site in settings.sites.values():
        if vpc_id in site.vpc_ids:
            return site.name
    listed = "; ".join(
        f"{site.name}: {', '.join(site.vpc_ids)}"
        for site in settings.sites.values()
        if site.vpc_ids
    )
    raise IdentityError(
        f"this host's VPC is {vpc_id}, which no site lists ({listed}). Write vpc_ids: [{vpc_id}] "
        f"under its site in {settings.path}, or site: with its name"
    )


def _by_network(settings: Settings, networks: tuple[str, ...]) -> str:
    said = tuple(name.lower() for name in networks)
    found = [site.name for site in settings.sites.values() if set(said) & set(site.networks)]
    if len(found) == 1:
        return found[0]
    if found:
        raise IdentityError(
            f"this host's network is {said[0]}, and {' and '.join(found)} list names of it "
            f"({', '.join(said)}). Write the longer one under its site in {settings.path}, and not "
            "the shorter one, or site: with its name"
        )
    listed = "; ".join(
        f"{site.name}: {', '.join(site.networks)}"
        for site in settings.sites.values()
        if site.networks
    )
    raise IdentityError(
        f"this host's network is {said[0]}, which no site lists ({listed}). Write networks: "
        f"[{said[0]}] under its site in {settings.path}, or site: with its name"
    )


def _by_range(settings: Settings, identity: Identity) -> str:
    around: list[tuple[IPv4Network, str]] = [
        (network, site.name)
        for site in settings.sites.values()
        for network in site.private
        if identity.private in network
    ]
    where = f"this host's private address is {identity.private}"
    if not around:
        raise IdentityError(
            f"{where}, which is in no site's private range ({_ranges(settings)}). Write its "
            f"range under its site in {settings.path}, or site: with its name"
        )
    longest = max(network.prefixlen for network, _ in around)
    nearest = [(network, name) for network, name in around if network.prefixlen == longest]
    names = [name for _, name in nearest]
    if len(set(names)) > 1:
        raise IdentityError(
            f"{where}, and {nearest[0][0]} is a private range of {' and of '.join(names)}. Write "
            f"site: {' or site: '.join(names)}, or vpc_ids (or networks) under each, in "
            f"{settings.path}"
        )
    return names[0]


def _require_ranges(site: Site, identity: Identity) -> None:
    # Peers do not believe an entry outside its site's ranges: this host would be cut off unnoticed.
    claims = (
        ("private", identity.private, site.private),
        ("public", identity.public, site.public),
    )
    for kind, address, ranges in claims:
        if address is not None and ranges and not _inside(address, ranges):
            raise IdentityError(
                f"this host's {kind} address {address} is outside the {kind} ranges of its site "
                f"{site.name} ({', '.join(map(str, ranges))}), so peers would not believe it. "
                "Write its range there, or another site:"
            )


def _inside(address: IPv4Address, ranges: tuple[IPv4Network, ...]) -> bool:
    return any(address in network for network in ranges)


def _ranges(settings: Settings) -> str:
    shown = [
        f"{site.name}: {', '.join(map(str, site.private)) or 'none'}"
        for site in settings.sites.values()
    ]
    return "; ".join(shown)
