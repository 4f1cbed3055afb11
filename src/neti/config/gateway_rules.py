"""How gateways fit together with the other keys: settings in, problems out. See ``rules``.

What a released version took is never refused here (see ``gateway_doubts``): with a file that is not
valid no agent starts and no table is restored, so a host that kept strangers out would be open.
"""

from collections.abc import Callable, Iterator
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


def _a_gateway_has_a_public_address(settings: Settings) -> Iterator[Finding]:
    own = settings.identity
    if not isinstance(own, StaticIdentity) or own.public is not None:
        return
    for site in settings.sites.values():
        if own.id in site.gateways:
            yield ("identity", "id"), public_missing(own.id, site)


def public_missing(own_id: str, site: Site) -> Unfit:
    """The host with this id is named as a gateway of the site, and has no public address."""
    return _said(
        f"{own_id}, a gateway of site {site.name}",
        "public beside it: the address that leads to this host alone",
    )


def _said(found: object, expected: str) -> Unfit:
    return Unfit(Said(str(found)), expected)


# With the keys that each reads.
RULES: Final[tuple[tuple[frozenset[str], Rule], ...]] = (
    (frozenset({"sites"}), _gateways_are_used),
    (frozenset({"sites", "registry", "registry_tls"}), _gateways_cannot_replace_keys),
    (frozenset({"sites", "overlay_subnet", "tunnel_port"}), _gateways_have_ports),
    (frozenset({"sites", "identity"}), _a_gateway_has_a_public_address),
)
