"""How gateways fit together with the other keys: settings in, problems out. See ``rules``."""

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Final

from neti.config.problems import Place, Said, Unfit
from neti.model import Reach, Site
from neti.model.gateways import PORTS
from neti.model.settings import Settings, StaticIdentity

Finding = tuple[Place, Unfit]
Rule = Callable[[Settings], Iterator[Finding]]


def _gateways_are_used(settings: Settings) -> Iterator[Finding]:
    owner: dict[str, str] = {}
    for site in settings.sites.values():
        by_gateway = site.reached_by is Reach.GATEWAY
        if by_gateway and not site.gateways:
            expected = "gateways beside it, with the ids of hosts that pass on for this site"
            yield ("sites", site.name, "reached_by"), Unfit("gateway", expected)
        if site.gateways and not by_gateway:
            expected = "reached_by: gateway beside it, or no gateways"
            named = _said(", ".join(site.gateways), expected)
            yield ("sites", site.name, "gateways"), named
        if by_gateway and not site.encrypt.encrypts:
            yield (
                ("sites", site.name, "reached_by"),
                Unfit(
                    "gateway",
                    "encrypt: require (or prefer) beside it: gateways pass on encrypted packets "
                    "only",
                ),
            )
        for index, one in enumerate(site.gateways):
            first = owner.setdefault(one, site.name)
            if first != site.name:
                yield (
                    ("sites", site.name, "gateways", index),
                    _said(one, f"it in one site only (it is in {first} too)"),
                )


def _gateways_cannot_replace_keys(settings: Settings) -> Iterator[Finding]:
    # What a gateway cannot read is only what is encrypted for the right host's key.
    if settings.registry_tls is not None or settings.embedded is not None:
        return
    for site in settings.sites.values():
        if site.reached_by is Reach.GATEWAY:
            yield (
                ("sites", site.name, "reached_by"),
                Unfit(
                    "gateway",
                    "public or private, because the registry is used without TLS and anybody on "
                    "the way could replace a member's key: write registry_tls first",
                ),
            )


def _gateways_have_ports(settings: Settings) -> Iterator[Finding]:
    if not any(site.reached_by is Reach.GATEWAY for site in settings.sites.values()):
        return
    subnet, port = settings.overlay_subnet, settings.tunnel_port
    if subnet.num_addresses > len(PORTS):
        yield (
            ("overlay_subnet",),
            _said(
                f"{subnet}, which has {subnet.num_addresses} addresses",
                f"at most {len(PORTS)}, because a gateway needs a port for each and has the ports "
                f"{PORTS}",
            ),
        )
    if port in PORTS:
        yield ("tunnel_port",), Unfit(port, f"a port outside {PORTS}, which gateways use")


def _gateways_are_named_by_id(settings: Settings) -> Iterator[Finding]:
    own = settings.identity
    if isinstance(own, StaticIdentity) and _is_address(own.id):
        return  # then addresses are ids in this fleet
    for site in settings.sites.values():
        for index, one in enumerate(site.gateways):
            if _is_address(one):
                yield (
                    ("sites", site.name, "gateways", index),
                    _said(one, "the id of a host, not its address: neti fleet lists ids"),
                )


def _gateways_have_public_ranges(settings: Settings) -> Iterator[Finding]:
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


def _an_own_gateway_fits(settings: Settings) -> Iterator[Finding]:
    own = settings.identity
    if not isinstance(own, StaticIdentity):
        return
    for site in settings.sites.values():
        if own.id not in site.gateways:
            continue
        elsewhere = _elsewhere(settings, own, site)
        if elsewhere:
            named = f"{own.id}, this host's id"
            expected = f"a host of {site.name}, because {elsewhere}"
            place = ("sites", site.name, "gateways", site.gateways.index(own.id))
            yield place, _said(named, expected)
        elif own.public is None:
            named = f"{own.id}, a gateway of site {site.name}"
            expected = "public beside it: the address that leads to this host alone"
            yield ("identity", "id"), _said(named, expected)
        else:
            yield from _unfit_public(own, site)


def _elsewhere(settings: Settings, own: StaticIdentity, site: Site) -> str:
    """Why this host cannot be in ``site``; empty where it may."""
    if settings.site is not None:
        return f"this one is in site {settings.site}" if settings.site != site.name else ""
    if site.private and not any(own.private in network for network in site.private):
        return f"this one has {own.private}, outside that site's private ranges"
    return ""


def _unfit_public(own: StaticIdentity, site: Site) -> Iterator[Finding]:
    if own.public == own.private:
        expected = (
            "an address apart from private: what other sites send to a gateway has to reach it at "
            "its private address, as a cloud or a router sees to"
        )
        yield ("identity", "public"), _said(own.public, expected)
    elif site.public and not any(own.public in network for network in site.public):
        ranges = ", ".join(map(str, site.public))
        expected = f"an address in sites.{site.name}.public ({ranges}): peers believe no other"
        yield ("identity", "public"), _said(own.public, expected)


def _the_probes_port_is_not_a_services(settings: Settings) -> Iterator[Finding]:
    """As with ``tunnel_port``: a range may just contain it."""
    if not any(site.reached_by is Reach.GATEWAY for site in settings.sites.values()):
        return
    for index, opened in enumerate(settings.open_ports):
        if opened.proto == "udp" and opened.first == opened.last == PORTS.first:
            expected = (
                "another port, because Neti probes gateways by this one, and needs it on each host"
            )
            yield ("open_ports", index), _said(f"{opened.first}/udp", expected)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _said(found: object, expected: str) -> Unfit:
    return Unfit(Said(str(found)), expected)


# With the keys that each reads.
RULES: Final[tuple[tuple[frozenset[str], Rule], ...]] = (
    (frozenset({"sites"}), _gateways_are_used),
    (frozenset({"sites", "registry", "registry_tls"}), _gateways_cannot_replace_keys),
    (frozenset({"sites", "overlay_subnet", "tunnel_port"}), _gateways_have_ports),
    (frozenset({"sites", "identity"}), _gateways_are_named_by_id),
    (frozenset({"sites"}), _gateways_have_public_ranges),
    (frozenset({"sites", "site", "identity"}), _an_own_gateway_fits),
    (frozenset({"sites", "open_ports"}), _the_probes_port_is_not_a_services),
)
