"""How keys fit together: settings in, problems out. Changes nothing, asks no other host.

A rule names the keys it reads. If one of them could not be read, the rule is skipped, so that one
mistake is not reported twice.
"""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Final

from neti.config import gateway_rules
from neti.config.convert import NODE_KEYS
from neti.config.entry_room import own_id
from neti.config.file import writable_by_all
from neti.config.problems import Place, Said, Unfit
from neti.errors import EntryError
from neti.model import Encrypt, IPAddress, Member
from neti.model.entry import MAX_MORE_ADDRESSES, encode
from neti.model.settings import Settings

Finding = tuple[Place, Unfit]
Rule = Callable[[Settings], Iterator[Finding]]

_RULES: Final[list[tuple[frozenset[str], Rule]]] = [*gateway_rules.RULES]
_NEVER_OVERLAY: Final = {
    IPv4Network("0.0.0.0/8"): "this network",
    IPv4Network("127.0.0.0/8"): "the loopback",
    IPv4Network("169.254.0.0/16"): "link-local addresses and the metadata service",
    IPv4Network("224.0.0.0/3"): "multicast and reserved addresses",
}


def findings(settings: Settings, failed: frozenset[str]) -> Iterator[Finding]:
    """Everything that does not fit together. Rules that read a failed key are skipped."""
    for keys, rule in _RULES:
        if not keys & failed:
            yield from rule(settings)


def _reads(*keys: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES.append((frozenset(keys), rule))
        return rule

    return register


@_reads("overlay_subnet")
def _overlay_is_usable(settings: Settings) -> Iterator[Finding]:
    subnet = settings.overlay_subnet
    if subnet.prefixlen > 30:
        yield ("overlay_subnet",), _said(subnet, "at least a /30: a smaller one holds no members")
    for reserved, use in _NEVER_OVERLAY.items():
        if subnet.overlaps(reserved):
            yield ("overlay_subnet",), _said(subnet, f"a range apart from {reserved} ({use})")


@_reads("overlay_subnet", "sites")
def _overlay_is_apart_from_sites(settings: Settings) -> Iterator[Finding]:
    for site in settings.sites.values():
        for kind, ranges in (("private", site.private), ("public", site.public)):
            for index, network in enumerate(ranges):
                if network.overlaps(settings.overlay_subnet):
                    yield (
                        ("sites", site.name, kind, index),
                        _said(network, f"a range apart from {_overlay(settings)}"),
                    )


@_reads("overlay_subnet", "nat_overrides")
def _overrides_leave_the_overlay(settings: Settings) -> Iterator[Finding]:
    for overlay, destination in settings.nat_overrides.items():
        if destination in settings.overlay_subnet:
            yield (
                ("nat_overrides", str(overlay)),
                _said(destination, f"a real address, outside {_overlay(settings)}"),
            )


@_reads("overlay_subnet", "identity", "addresses")
def _own_addresses_are_real(settings: Settings) -> Iterator[Finding]:
    for place, address in _own_addresses(settings):
        if address in settings.overlay_subnet:
            yield place, _said(address, f"a real address, outside {_overlay(settings)}")


@_reads("identity", "addresses")
def _addresses_fit_one_entry(settings: Settings) -> Iterator[Finding]:
    count = len(settings.addresses)
    if not isinstance(settings.identity, str) and settings.identity.ipv6 is not None:
        count += 1
    if count > MAX_MORE_ADDRESSES:
        yield (
            ("addresses",),
            _said(f"{count} further addresses", f"at most {MAX_MORE_ADDRESSES}, IPv6 included"),
        )


@_reads("overlay_subnet", "zk_hosts")
def _ensemble_is_real(settings: Settings) -> Iterator[Finding]:
    for site, hosts in settings.zk_hosts.items():
        for index, host in enumerate(hosts):
            address = _address_of(host)
            if address is not None and address in settings.overlay_subnet:
                yield (
                    ("zk_hosts", site, index),
                    _said(host, f"a real address: Neti needs it before {_overlay(settings)} works"),
                )


@_reads("site", "sites")
def _own_site_is_known(settings: Settings) -> Iterator[Finding]:
    if settings.site is not None and settings.site not in settings.sites:
        yield ("site",), Unfit(settings.site, f"auto, or one of the sites: {_sites(settings)}")


@_reads("zk_hosts", "sites")
def _ensembles_are_of_sites(settings: Settings) -> Iterator[Finding]:
    for site in settings.zk_hosts:
        if site not in settings.sites:
            yield (
                ("zk_hosts", site),
                _said(f"the site {site!r}", f"one of the sites: {_sites(settings)}"),
            )


@_reads("sites")
def _a_network_is_in_one_site(settings: Settings) -> Iterator[Finding]:
    for key in ("vpc_ids", "networks"):
        owner: dict[str, str] = {}
        for site in settings.sites.values():
            listed: tuple[str, ...] = getattr(site, key)
            for index, network in enumerate(listed):
                first = owner.setdefault(network, site.name)
                if first != site.name:
                    yield (
                        ("sites", site.name, key, index),
                        _said(network, f"it in one site only (it is in {first} too)"),
                    )


@_reads("registry", "zk_hosts", "site", "sites")
def _there_is_a_registry(settings: Settings) -> Iterator[Finding]:
    if settings.embedded is not None:
        return
    if not any(settings.zk_hosts.values()):
        yield (
            ("zk_hosts",),
            _said(
                "no registry",
                "zk_hosts with a list of host:port per site; or, to try Neti on one machine, "
                "registry: embedded:/var/lib/neti/registry.db",
            ),
        )
    elif settings.site in settings.sites and not settings.zk_hosts.get(settings.site or ""):
        yield (
            ("zk_hosts",),
            _said(
                f"no hosts for this host's own site {settings.site!r}",
                f"{settings.site}: [host:port] under zk_hosts",
            ),
        )


@_reads("zk_prefix", *NODE_KEYS)
def _node_names_differ(settings: Settings) -> Iterator[Finding]:
    owner: dict[str, str] = {}
    for key in NODE_KEYS:
        name: str = getattr(settings, key)
        first = owner.setdefault(name, key)
        if first != key:
            yield (key,), Unfit(name, f"a name other than that of {first}")


@_reads("table_files_path")
def _state_is_private(settings: Settings) -> Iterator[Finding]:
    # A user who can write there decides who this host is and whom it lets in after a reboot.
    if writable_by_all(settings.table_files_path):
        yield (
            ("table_files_path",),
            _said(
                f"{settings.table_files_path}, which everyone can write to",
                f"a folder of Neti's own: chmod o-w {settings.table_files_path}, or name another",
            ),
        )


@_reads("identity", "site", "sites")
def _identity_fits_an_entry(settings: Settings) -> Iterator[Finding]:
    identity = settings.identity
    host_id = own_id(settings)
    if isinstance(identity, str) or host_id is None:
        return
    # If the site is not decided yet, try the shortest name: if that does not fit, none does.
    site = settings.site or min(settings.sites, key=len)
    nowhere = IPv4Address(0)
    member = Member(id=host_id, site=site, private=nowhere, public=None, overlay=nowhere)
    try:
        encode(member)
    except EntryError as error:
        yield ("identity", "id"), _said(str(error), "both to fit one entry of the registry")


@_reads("ssh_port", "verify_port")
def _ports_differ(settings: Settings) -> Iterator[Finding]:
    if settings.ssh_port == settings.verify_port:
        yield ("verify_port",), Unfit(settings.verify_port, "a port other than ssh_port")


@_reads("ssh_port", "verify_port", "metrics_listen", "tunnel_port", "sites")
def _tunnel_port_is_its_own(settings: Settings) -> Iterator[Finding]:
    # Only where it is used: nobody else's file must become invalid. The others are TCP, but people
    # and security groups tell ports by their number.
    if not settings.encrypts:
        return
    port = settings.tunnel_port
    taken = {"ssh_port": settings.ssh_port, "verify_port": settings.verify_port}
    if settings.metrics_listen is not None:
        taken["metrics_listen"] = int(settings.metrics_listen.rpartition(":")[2])
    for key, number in taken.items():
        if number == port:
            yield ("tunnel_port",), Unfit(port, f"a port other than that of {key}")


@_reads("open_ports", "tunnel_port", "sites")
def _tunnel_port_is_not_a_services(settings: Settings) -> Iterator[Finding]:
    """A single port that is opened by name is another program's; a range may just contain it."""
    if not settings.encrypts:
        return
    for index, opened in enumerate(settings.open_ports):
        if opened.proto == "udp" and opened.first == opened.last == settings.tunnel_port:
            yield (
                ("open_ports", index),
                _said(
                    f"{opened.first}/udp, which is tunnel_port",
                    "it left out, because Neti opens the port itself; or another tunnel_port, if "
                    "a program of yours listens there",
                ),
            )


@_reads("sites", "registry", "registry_tls")
def _required_encryption_has_keys_to_trust(settings: Settings) -> Iterator[Finding]:
    # In a registry without TLS anybody can replace a member's key, and then reads everything.
    if settings.registry_tls is not None and settings.embedded is None:
        return
    for site in settings.sites.values():
        if site.encrypt is Encrypt.REQUIRE:
            yield (
                ("sites", site.name, "encrypt"),
                Unfit(
                    "require",
                    "off or prefer, because the registry is used without TLS and anybody on the "
                    "way could replace a member's key: write registry_tls first",
                )
                if settings.embedded is None
                else Unfit("require", "off or prefer, because an embedded registry has no TLS"),
            )


def _own_addresses(settings: Settings) -> Iterator[tuple[Place, IPAddress]]:
    identity = settings.identity
    if not isinstance(identity, str):
        if isinstance(identity.private, IPv4Address):
            yield ("identity", "private"), identity.private
        if isinstance(identity.public, IPv4Address):
            yield ("identity", "public"), identity.public
    for index, address in enumerate(settings.addresses):
        yield ("addresses", index), address


def _address_of(endpoint: str) -> IPAddress | None:
    try:
        return ip_address(endpoint.rpartition(":")[0].strip("[]"))
    except ValueError:
        return None


def _said(found: object, expected: str) -> Unfit:
    return Unfit(Said(str(found)), expected)


def _overlay(settings: Settings) -> str:
    return f"overlay_subnet {settings.overlay_subnet}"


def _sites(settings: Settings) -> str:
    return ", ".join(settings.sites)
