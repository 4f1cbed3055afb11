"""Mistakes with gateways that cut off a site, and that a version before took without a word.

They are warnings in the words of errors: a host whose new version refused the file that the old one
ran with would start no agent and restore no table, and so be open after a reboot.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address

from neti.config.entry_room import own_id
from neti.config.gateway_rules import Finding, public_missing
from neti.config.problems import Said, Unfit, at
from neti.config.schema import ConfigForm
from neti.model import Reach, Site
from neti.model.addresses import is_address
from neti.model.gateways import PORTS
from neti.model.settings import LocalIdentity, Settings, StaticIdentity


def doubts(form: ConfigForm, settings: Settings) -> Iterator[str]:
    """What is wrong with gateways, each in one line with the key, the value and what was expected.
    Refuses nothing. ``form`` is the file of ``settings``, which name each gateway once."""
    for place, unfit in _findings(form, settings):
        yield at(place, 0, unfit).sentence()


def _findings(form: ConfigForm, settings: Settings) -> Iterator[Finding]:
    yield from _named_twice(form)
    yield from _named_by_address(form, settings)
    yield from _no_public_ranges(settings)
    yield from _own_gateway(form, settings)
    yield from _probes_port(settings)


def _named_twice(form: ConfigForm) -> Iterator[Finding]:
    """Where another one was meant, there is one less than it seems."""
    for name, site in form.sites.items():
        for one in dict.fromkeys(site.gateways):
            if site.gateways.count(one) > 1:
                yield ("sites", name, "gateways"), _said(f"{one} more than once", "each id once")


def _named_by_address(form: ConfigForm, settings: Settings) -> Iterator[Finding]:
    own = own_id(settings)
    if own is not None and is_address(own):
        return  # then addresses are ids in this fleet
    for name, site in form.sites.items():
        for index, one in enumerate(site.gateways):
            if is_address(one):
                yield (
                    ("sites", name, "gateways", index),
                    _said(one, "the id of a host, not its address: neti fleet lists ids"),
                )


def _no_public_ranges(settings: Settings) -> Iterator[Finding]:
    """Peers believe no public address outside them, and a gateway's is not its private one."""
    for site in settings.sites.values():
        inside = [one for one in site.public if any(map(one.subnet_of, site.private))]
        if site.reached_by is Reach.GATEWAY and site.public and len(inside) == len(site.public):
            yield (
                ("sites", site.name, "public"),
                _said(
                    f"{', '.join(map(str, inside))}, within its private ranges",
                    f"the ranges of the public addresses of {', '.join(site.gateways)}",
                ),
            )


def _own_gateway(form: ConfigForm, settings: Settings) -> Iterator[Finding]:
    own, named = settings.identity, own_id(settings)
    if isinstance(own, str) or named is None:
        return
    for site in settings.sites.values():
        if named not in site.gateways:
            continue
        elsewhere = _elsewhere(settings, own, site)
        if elsewhere:
            expected = f"a host of {site.name}, because {elsewhere}"
            index = form.sites[site.name].gateways.index(named)
            yield (
                ("sites", site.name, "gateways", index),
                _said(f"{named}, this host's id", expected),
            )
        elif own.public is None:
            yield ("identity", "id"), public_missing(named, site)
        else:
            yield from _unfit_public(own, site)


def _elsewhere(settings: Settings, own: StaticIdentity | LocalIdentity, site: Site) -> str:
    """Why this host cannot be in ``site``; empty where it may, or the file does not tell."""
    if settings.site is not None:
        return f"this one is in site {settings.site}" if settings.site != site.name else ""
    private = own.private
    if not isinstance(private, IPv4Address) or not site.private:
        return ""
    if not any(private in network for network in site.private):
        return f"this one has {private}, outside that site's private ranges"
    return ""


def _unfit_public(own: StaticIdentity | LocalIdentity, site: Site) -> Iterator[Finding]:
    if own.public in ("same", own.private):
        expected = (
            "an address apart from private: what other sites send to a gateway has to reach it at "
            "its private address, as a cloud or a router sees to"
        )
        yield ("identity", "public"), _said(own.public, expected)
    elif site.public and not any(own.public in network for network in site.public):
        ranges = ", ".join(map(str, site.public))
        expected = f"an address in sites.{site.name}.public ({ranges}): peers believe no other"
        yield ("identity", "public"), _said(own.public, expected)


def _probes_port(settings: Settings) -> Iterator[Finding]:
    """As with ``tunnel_port``: a range may just contain it."""
    if not any(site.reached_by is Reach.GATEWAY for site in settings.sites.values()):
        return
    for index, opened in enumerate(settings.open_ports):
        if opened.proto == "udp" and opened.first == opened.last == PORTS.first:
            expected = (
                "another port, because Neti probes gateways by this one, and needs it on each host"
            )
            yield ("open_ports", index), _said(f"{opened.first}/udp", expected)


def _said(found: object, expected: str) -> Unfit:
    return Unfit(Said(str(found)), expected)
