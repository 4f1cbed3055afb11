"""By which way the hosts of two sites reach each other, as the configuration says it. Pure."""

from itertools import combinations

from neti.model import Reach, Site
from neti.model.settings import Settings
from neti.ruleset.reach import by_gateways, by_link, encryption


def site_roads(settings: Settings) -> list[str]:
    """A line for each pair of sites; none where all are reached by public address."""
    sites = settings.sites.values()
    if all(site.reached_by is Reach.PUBLIC for site in sites):
        return []
    return [_road(*pair) for pair in combinations(sites, 2)]


def _road(one: Site, other: Site) -> str:
    there, back = by_link(one, other), by_link(other, one)
    if by_gateways(one, other):
        way = "by public address, and by gateways where a host has none of its own"
    elif there and back:
        way = "by private address, both ways"
    elif there or back:
        near, far = (one, other) if there else (other, one)
        way = f"{near.name} to {far.name} by private address, back by public address"
    else:
        way = "by public address"
    asked = encryption(one, other)
    if by_gateways(one, other):
        clear = "encrypted or not at all"
    elif asked.encrypts:
        clear = f"encrypt {asked.value}"
    else:
        clear = "in the clear"
    return f"{one.name} and {other.name}: {way}; {clear}"
