"""What an operator should know about a valid file. Refuses nothing, shows no secret."""

from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import Final

from neti.config import entry_room, member_ports
from neti.config.gateway_doubts import doubts
from neti.config.gateway_warnings import of_gateways, of_overlaps
from neti.config.schema import ConfigForm
from neti.model import Encrypt, Reach, Site
from neti.model.addresses import embeds_ipv4
from neti.model.settings import Settings

# The longest session that a ZooKeeper with stock settings (tickTime 2000) grants.
_STOCK_SESSION_SECONDS: Final = 40


def warnings(form: ConfigForm, settings: Settings, *, readable_by_all: bool) -> Iterator[str]:
    yield from _of_2014(form, readable_by_all=readable_by_all)
    yield from _of_sites(settings)
    yield from doubts(form, settings)
    yield from of_overlaps(settings)
    yield from of_gateways(settings)
    yield from _of_own_addresses(settings)
    covered = settings.ssh_whitelist or settings.allow_empty_ssh_whitelist
    if settings.reject_all and not covered:
        yield (
            "reject_all is true and ssh_whitelist is empty, so this host will refuse to enforce: "
            "list the networks that SSH comes from, or write allow_empty_ssh_whitelist: true"
        )
    for network in settings.ssh_whitelist:
        if network.prefixlen == 0:
            yield (
                f"ssh_whitelist contains {network}: everyone can connect to SSH, even with "
                "reject_all. List the networks that operators come from"
            )
    yield from member_ports.warnings(settings)
    for network in settings.trusted:
        if network.prefixlen == 0:
            yield (
                f"trusted contains {network}: everyone gets in on every port, even with reject_all"
            )
    if settings.embedded is None and settings.session_seconds > _STOCK_SESSION_SECONDS:
        yield (
            f"session_seconds is {settings.session_seconds:g}, but a stock ZooKeeper ends sessions "
            f"after {_STOCK_SESSION_SECONDS} s at most"
        )
    if settings.embedded is not None and settings.zk_hosts:
        yield f"zk_hosts is not used, because registry is embedded:{settings.embedded}"
    if settings.embedded is not None and settings.registry_tls is not None:
        yield f"registry_tls is not used, because registry is embedded:{settings.embedded}"


def _of_2014(form: ConfigForm, *, readable_by_all: bool) -> Iterator[str]:
    if form.aws_key is not None or form.aws_secret_key is not None:
        yield (
            "aws_key and aws_secret_key are used for the instance's tags: give the instance a role "
            "instead, and remove them"
        )
        if (form.aws_key is None) != (form.aws_secret_key is None):
            yield "aws_key and aws_secret_key belong together: one alone is not used"
        if readable_by_all:
            yield (
                "the file contains AWS keys and everyone on this host can read it: run chmod "
                "o-rwx on it, and replace the keys"
            )
    for key in ("bin", "overlay_ip_cache_file_path"):
        if key in form.model_fields_set:
            yield f"{key} has no effect any more (it belonged to the 2014 cookbook): remove it"


def _of_sites(settings: Settings) -> Iterator[str]:
    if settings.embedded is None:  # an embedded registry is one file on this machine
        if not settings.sites_configured:
            yield (
                "there is no sites:, so members may claim any address, and whoever is behind it "
                "gets in here: write sites: with the ranges of each"
            )
        else:
            sites = settings.sites.values()
            yield from (_no_public(site) for site in sites if not site.public)
            if any(site.encrypt is Encrypt.REQUIRE for site in sites):
                yield from (_no_ipv6(site) for site in sites if not site.ipv6)
        for site, hosts in settings.zk_hosts.items():
            if not hosts:
                yield f"zk_hosts.{site} is empty: agents in site {site} cannot start"
    yield from entry_room.too_long(settings)


def _no_public(site: Site) -> str:
    by_gateway = site.reached_by is Reach.GATEWAY
    otherwise = "its private ranges again, if they have no public addresses"
    return (
        f"sites.{site.name} has no public ranges, so its members may claim any public address, and "
        "whoever is behind it gets in here: write public: with the ranges its hosts have "
        f"({'those of its gateways alone' if by_gateway else otherwise})"
    )


def _no_ipv6(site: Site) -> str:
    return (
        f"sites.{site.name} has no ipv6 ranges, and encryption is required: a member of another "
        "site that claims an IPv6 address of this one's hosts cuts it off from them. Write ipv6: "
        "with the ranges its hosts have (2001:db8::/32, which nobody has, if they have none)"
    )


def _of_own_addresses(settings: Settings) -> Iterator[str]:
    """What peers will not let in of this host, as far as the file tells."""
    own = [("addresses", one) for one in settings.addresses]
    if not isinstance(settings.identity, str) and settings.identity.ipv6 is not None:
        own.append(("identity.ipv6", settings.identity.ipv6))
    site = settings.sites.get(settings.site or "")
    ranges = site.ipv6 if site is not None else ()
    for key, address in own:
        if not isinstance(address, IPv6Address):
            continue
        scheme = embeds_ipv4(address)
        if scheme is not None:
            yield f"{key} contains {address}, an address of {scheme}: no peer lets it in"
        elif ranges and not any(address in network for network in ranges):
            yield (
                f"{key} contains {address}, which is outside sites.{settings.site}.ipv6: no peer "
                "lets it in"
            )
