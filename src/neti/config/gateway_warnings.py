"""What an operator should know of sites whose addresses do not tell them apart, and of their
gateways. Refuses nothing. See ``warnings``."""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations
from typing import Final

from neti.config.entry_room import own_id
from neti.model import Reach, Site
from neti.model.gateways import PORTS
from neti.model.settings import OpenPort, Settings

_INSTANCE: Final = re.compile(r"i-[0-9a-f]{8,32}", re.ASCII)


def of_gateways(settings: Settings) -> Iterator[str]:
    sites = settings.sites.values()
    for site in sites:
        if site.reached_by is not Reach.GATEWAY:
            continue
        others = [other for other in sites if other is not site]
        if all(other.reached_by is Reach.PRIVATE for other in others):
            yield (
                f"sites.{site.name}.gateways pass nothing on: {_why_not(others)}. Expected another "
                "site that is reached_by public or gateway"
            )
        named = [one for one in site.gateways if not _INSTANCE.fullmatch(one)]
        if site.vpc_ids and named:
            yield _no_instance(site, named)
    yield from _of_open_ports(settings)


def of_overlaps(settings: Settings) -> Iterator[str]:
    """What goes by private address needs ranges that differ; so does telling the site by it."""
    for one, other in combinations(settings.sites.values(), 2):
        for near in one.private:
            for far in (network for network in other.private if network.overlaps(near)):
                linked = [s for s in (one, other) if s.reached_by is Reach.PRIVATE]
                if linked:
                    yield _no_link(linked[0], one, near, other, far)
                if _by_address(settings, near, far):
                    yield _untold(one, near, other, far)


def _by_address(settings: Settings, near: IPv4Network, far: IPv4Network) -> bool:
    """Whether this host's site is decided by its address, which may be in both ranges."""
    if settings.site is not None:
        return False
    own = settings.identity
    if not isinstance(own, str) and isinstance(own.private, IPv4Address):
        return own.private in near and own.private in far
    return not any(site.vpc_ids or site.networks for site in settings.sites.values())


def _of_open_ports(settings: Settings) -> Iterator[str]:
    own = own_id(settings)
    if not any(own in site.gateways for site in settings.sites.values()):
        return
    for opened in settings.open_ports:
        if opened.proto == "udp" and opened.first <= PORTS.last and opened.last >= PORTS.first:
            yield (
                f"open_ports contains {_span(opened)}/udp, and this host, {own}, is a gateway, "
                f"which passes on what members send to {PORTS}: a program there may not hear them. "
                "Expected ports outside these"
            )


def _why_not(others: list[Site]) -> str:
    if not others:
        return "there is no other site"
    return f"a link wins, and {', '.join(site.name for site in others)} is reached_by private"


def _no_instance(site: Site, named: list[str]) -> str:
    return (
        f"sites.{site.name}.gateways contains {', '.join(named)}, and the site lists vpc_ids: an "
        "EC2 instance is named by its instance id. Expected ids such as i-0123456789abcdef0, "
        "unless the hosts' own files give them others"
    )


def _no_link(linked: Site, one: Site, near: IPv4Network, other: Site, far: IPv4Network) -> str:
    return (
        f"sites.{linked.name} is reached_by private, and {_both(one, near, other, far)} overlap: "
        "what is for a host of the other site by such an address stays in the sender's own. "
        "Expected ranges that differ, or reached_by public or gateway"
    )


def _untold(one: Site, near: IPv4Network, other: Site, far: IPv4Network) -> str:
    then = "neither counts" if near == far else "the longer range counts, whichever is meant"
    return (
        f"site is auto, and {_both(one, near, other, far)} overlap: a host with an address in both "
        f"cannot tell its site by it ({then}). Expected site: {one.name} or {other.name}, or "
        "vpc_ids (on EC2) or networks (on Google and Azure) under each"
    )


def _both(one: Site, near: IPv4Network, other: Site, far: IPv4Network) -> str:
    return f"sites.{one.name}.private {near} and sites.{other.name}.private {far}"


def _span(opened: OpenPort) -> str:
    return str(opened.first) if opened.first == opened.last else f"{opened.first}-{opened.last}"
