"""The configuration as the rest of the program sees it: frozen, valid, with defaults.

``neti.config`` makes it from a file; nothing here reads or checks anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from neti.model import IPAddress, Site
from neti.model.groups import MemberPorts
from neti.model.labels import NO_LABELS, Labels

DEFAULT_STATE: Final = Path("/var/lib/neti")

IPNetwork = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class OpenPort:
    """Ports ``first`` to ``last`` (1-65535, inclusive), open to ``sources`` (empty: everyone)."""

    first: int
    last: int
    proto: Literal["tcp", "udp"]
    sources: tuple[IPNetwork, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticIdentity:
    id: str
    private: IPv4Address
    public: IPv4Address | None = None
    ipv6: IPv6Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalIdentity:
    """What the machine itself says, asked again and again, so that one file is for many machines.

    ``id``: "hostname" (up to the first dot), "machine-id" (sixteen digits of a hash of it), a file
    whose first line says it, or the id itself. ``private``: an interface's first address, the only
    address in a network, or the address itself. ``public``: "same" as the private one, an address,
    or none.
    """

    id: str | Path
    id_is_given: bool
    private: IPv4Address | IPv4Network | str
    public: IPv4Address | Literal["same"] | None = None
    ipv6: IPv6Address | None = None


CloudWord = Literal["auto", "ec2", "gcp", "azure"]
IdentityFrom = CloudWord | StaticIdentity | LocalIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryTLS:
    ca: Path
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every key of neti.yml; see docs/configuration.md for what each means."""

    path: Path
    # sites and identity
    site: str | None = None  # None: auto
    sites: Mapping[str, Site] = field(default_factory=lambda: MappingProxyType({}))
    sites_configured: bool = (
        False  # False: a file of 2014, whose sites are just the names ec2 and vpc
    )
    identity: IdentityFrom = "auto"
    addresses: tuple[IPAddress, ...] = ()
    labels: Labels = field(default_factory=lambda: NO_LABELS)
    # registry
    embedded: Path | None = None  # the embedded registry's file; None: ZooKeeper
    zk_hosts: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    zk_prefix: str = "/neti"
    zk_iptoid_node: str = "ip-to-id"
    zk_idtoip_node: str = "id-to-ip"
    zk_ip_map_node: str = "ip-map"
    zk_update_interval_path: str = "interval"
    zk_max_change_threshold_path: str = "maxchange"
    registry_tls: RegistryTLS | None = None
    session_seconds: float = 30.0
    # the overlay
    overlay_subnet: IPv4Network = IPv4Network("192.168.0.0/18")
    nat_overrides: Mapping[IPv4Address, IPv4Address] = field(
        default_factory=lambda: MappingProxyType({})
    )
    tunnel_port: int = 51820  # UDP, of WireGuard
    # who gets in
    open_ports: tuple[OpenPort, ...] = ()
    member_ports: MemberPorts = None
    ssh_whitelist: tuple[IPNetwork, ...] = ()
    ssh_port: int = 22
    allow_empty_ssh_whitelist: bool = False
    trusted: tuple[IPNetwork, ...] = ()
    container_interfaces: tuple[str, ...] | None = None  # None: auto, by kind
    reject_all: bool = False
    trial_seconds: int = 120
    # keeping calm
    linger_seconds: int = 600
    hold_seconds: int = 3600
    conntrack_max: int | Literal["auto"] = "auto"
    # this host's own affairs
    verify_port: int = 7077
    metrics_listen: str | None = None
    log_file: Path | None = None
    table_files_path: Path = DEFAULT_STATE
    aws_key: str | None = field(default=None, repr=False)
    aws_secret_key: str | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()  # for the operator, about this file

    @property
    def encrypts(self) -> bool:
        """Whether any site asks for it; this host's own pairs of sites may all be in the clear."""
        return any(site.encrypt.encrypts for site in self.sites.values())

    @property
    def way_in(self) -> bool:
        """Whether an operator can get into an enforced host."""
        return bool(self.ssh_whitelist) or self.allow_empty_ssh_whitelist
