"""What a lab consists of: its sites, hosts, names and addresses. Pure: builds and reads nothing.

                     internet 192.0.2.254 ---- stranger 192.0.2.66
                      /                \\
      ec2-gateway 192.0.2.1       vpc-gateway 192.0.2.2
        198.51.100.0/24             203.0.113.0/24         public, one-to-one NAT
          10.0.0.0/16                 10.0.0.0/16          private: the same on both sides
        /   |   |   \\               /   |   |   \\
     ec2-1  ...  ec2-4           vpc-1  ...  vpc-4         10.0.0.11, .12, .13, .14 on both sides

With gateways a site has two hosts more (ec2-gw-1, ec2-gw-2). Where only these have a public
address, the site has two that are no host's: one for what goes out, one of a load balancer.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final, Literal

from neti_lab import LabError

# Closed: one server with mutual TLS, rights, admission, strict. An ensemble: three servers in vpc,
# as many proxies in ec2, mutual TLS; admission and strict too where hosts encrypt.
RegistryKind = Literal["embedded", "zookeeper", "closed", "ensemble"]

DEFAULT_NAME: Final = "lab"
SITES: Final = ("ec2", "vpc")
MAX_HOSTS: Final = 50  # a site; the first has the number 1
INTERNET: Final = "internet"
STRANGER: Final = "stranger"
INTERNET_ADDRESS: Final = IPv4Address("192.0.2.254")  # also where ZooKeeper listens
STRANGER_ADDRESS: Final = IPv4Address("192.0.2.66")
# From here the configuration of the lab's hosts lets SSH in; nobody in the lab has it.
OPERATOR_NETWORK: Final = IPv4Network("192.0.2.128/26")
METADATA_ADDRESS: Final = IPv4Address("169.254.169.254")
REGISTRY_PORT: Final = 2281  # where the registry speaks TLS, and of its proxies
TUNNEL_PORT: Final = 51820  # UDP, of WireGuard: where hosts can encrypt
GATEWAY_PORTS: Final = "16384-32767"  # UDP, of gateways
WEB_PORT: Final = 8080  # the metadata service has port 80 of its address; the two never collide

_HOST_OFFSET: Final = 10  # host 1 has the address .11
_GATEWAY_OFFSET: Final = 100  # and gateway 1 has .101
_REGISTRY_OFFSET: Final = 200  # and the registry's own begin with .201
_REGISTRY_SIZE: Final = 3
_GATEWAYS: Final = 2
_EGRESS_OFFSET, _FRONT_OFFSET = 4, 5
# No '-' in a lab's name, so that no lab's prefix is the beginning of another's.
_LAB_NAME: Final = re.compile(r"[a-z][a-z0-9]{0,11}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabHost:
    """A host; its name is its host id too. ``public`` None: it goes out by NAT, and nothing from
    outside comes to it but by its site's load balancer or a gateway."""

    name: str
    site: str
    number: int
    private: IPv4Address
    public: IPv4Address | None
    gateway: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LabSite:
    name: str
    private: IPv4Network
    public: IPv4Network
    vpc_id: str
    uplink: IPv4Address  # the gateway's own address on the internet
    size: int  # how many hosts, gateways aside
    keeper: str = ""  # how hosts of the registry's own are called here, when there are any
    has_gateways: bool = False
    private_only: bool = False  # only gateways have a public address

    @property
    def site_gateway(self) -> str:
        """The cloud's own router, and no gateway of Neti's."""
        return f"{self.name}-gateway"

    @property
    def switch(self) -> str:
        """The site's own network. Apart from the gateway, since a bridge beside NAT rules hands
        packets from host to host by itself where the module br_netfilter is loaded."""
        return f"{self.name}-switch"

    @property
    def router(self) -> IPv4Address:
        """The site gateway's address inside the site."""
        return self.private.network_address + 1

    @property
    def egress(self) -> IPv4Address:
        """What the internet sees of those that have no public address, as behind a NAT gateway."""
        return self.public.network_address + _EGRESS_OFFSET

    @property
    def front(self) -> IPv4Address:
        """The load balancer's address, by which such hosts are reached at published ports."""
        return self.public.network_address + _FRONT_OFFSET

    def host(self, number: int) -> LabHost:
        return self._machine(f"{number}", _HOST_OFFSET, number, private_only=self.private_only)

    @property
    def workers(self) -> tuple[LabHost, ...]:
        """Hosts that are no gateways."""
        return tuple(self.host(number) for number in range(1, self.size + 1))

    @property
    def gateways(self) -> tuple[LabHost, ...]:
        return tuple(
            replace(self._machine(f"gw-{n}", _GATEWAY_OFFSET, n, private_only=False), gateway=True)
            for n in range(1, _GATEWAYS + 1 if self.has_gateways else 1)
        )

    @property
    def hosts(self) -> tuple[LabHost, ...]:
        """Whoever has an agent."""
        return self.workers + self.gateways

    @property
    def keepers(self) -> tuple[LabHost, ...]:
        """Servers or proxies of the registry. No agent runs there."""
        return tuple(
            self._machine(f"{self.keeper}-{n}", _REGISTRY_OFFSET, n, private_only=self.private_only)
            for n in range(1, _REGISTRY_SIZE + 1 if self.keeper else 1)
        )

    def outward(self, host: LabHost) -> IPv4Address:
        """The address that the internet sees when this machine calls."""
        return host.public or self.egress

    def door(self, host: LabHost, port: int) -> tuple[IPv4Address, int]:
        """Where the internet finds this port of a machine. The load balancer has a listener of its
        own for each machine: the port, and behind it those of the machines with later numbers."""
        return (host.public, port) if host.public else (self.front, port + host.number - 1)

    def _machine(self, name: str, offset: int, number: int, *, private_only: bool) -> LabHost:
        place = offset + number
        return LabHost(
            name=f"{self.name}-{name}",
            site=self.name,
            number=number,
            private=self.private.network_address + place,
            public=None if private_only else self.public.network_address + place,
        )

    @property
    def machines(self) -> tuple[LabHost, ...]:
        """Everything that has an address in the site."""
        return self.hosts + self.keepers


@dataclass(frozen=True, slots=True, kw_only=True)
class LabPlan:
    name: str
    registry: RegistryKind
    sites: tuple[LabSite, ...]
    encrypt: bool = False  # whether hosts can encrypt what goes between the sites

    @property
    def hosts(self) -> tuple[LabHost, ...]:
        return tuple(host for site in self.sites for host in site.hosts)

    @property
    def keepers(self) -> tuple[LabHost, ...]:
        return tuple(host for site in self.sites for host in site.keepers)

    @property
    def has_groups(self) -> bool:
        """Whether the site gateways do what security groups do."""
        return self.registry == "ensemble"

    @property
    def has_gateways(self) -> bool:
        """Whether some site's hosts are reached by gateways, and encryption is required so."""
        return any(site.private_only for site in self.sites)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Everything that has a namespace."""
        inner = tuple(node for site in self.sites for node in (site.site_gateway, site.switch))
        return (INTERNET, STRANGER, *inner, *(host.name for host in (*self.hosts, *self.keepers)))

    def namespace(self, node: str) -> str:
        return f"{namespace_prefix(self.name)}{node}"

    def site(self, name: str) -> LabSite:
        for site in self.sites:
            if site.name == name:
                return site
        raise LabError(
            f"the lab has no site {name!r}: it has {_listed(site.name for site in self.sites)}"
        )

    def host(self, name: str) -> LabHost:
        for host in self.hosts:
            if host.name == name:
                return host
        raise LabError(
            f"the lab has no host {name!r}: it has {_listed(host.name for host in self.hosts)}"
        )

    def with_host(self, site: str) -> tuple["LabPlan", LabHost]:
        """The plan with one host more in the site, and that host."""
        grown = replace(self.site(site), size=_checked_size(self.site(site).size + 1))
        return self._with(grown), grown.workers[-1]

    def without_public_addresses(self, site: str) -> "LabPlan":
        """The plan in which only gateways of the site have one."""
        return self._with(replace(self.site(site), private_only=True))

    def _with(self, changed: LabSite) -> "LabPlan":
        sites = tuple(changed if each.name == changed.name else each for each in self.sites)
        return replace(self, sites=sites)


def plan_lab(
    *,
    name: str = "lab",
    hosts: int | Mapping[str, int] = 4,
    registry: RegistryKind = "embedded",
    encrypt: bool = False,
    gateways: bool = False,
    private_only: Collection[str] = (),
) -> LabPlan:
    """A lab of the two sites with ``hosts`` hosts each (or as many as the mapping says), and two
    gateways more where asked. ``private_only``: sites whose gateways alone have a public address.
    """
    namespace_prefix(name)
    if private_only and not (gateways and encrypt):
        raise LabError("hosts without a public address need gateways, and these need encryption")

    def size(site: str) -> int:
        return _checked_size(hosts if isinstance(hosts, int) else hosts[site])

    return LabPlan(
        name=name,
        registry=registry,
        encrypt=encrypt,
        sites=(
            LabSite(
                name="ec2",
                private=IPv4Network("10.0.0.0/16"),
                public=IPv4Network("198.51.100.0/24"),
                vpc_id="vpc-00000000000000ec2",
                uplink=IPv4Address("192.0.2.1"),
                size=size("ec2"),
                keeper="proxy" if registry == "ensemble" else "",
                has_gateways=gateways,
                private_only="ec2" in private_only,
            ),
            LabSite(
                name="vpc",
                private=IPv4Network("10.0.0.0/16"),
                public=IPv4Network("203.0.113.0/24"),
                vpc_id="vpc-0000000000000007c",
                uplink=IPv4Address("192.0.2.2"),
                size=size("vpc"),
                keeper="zk" if registry == "ensemble" else "",
                has_gateways=gateways,
                private_only="vpc" in private_only,
            ),
        ),
    )


def to_document(plan: LabPlan) -> dict[str, Any]:
    """The plan as JSON values; ``from_document`` turns them back."""
    return {
        "name": plan.name,
        "registry": plan.registry,
        "encrypt": plan.encrypt,
        "gateways": any(site.has_gateways for site in plan.sites),
        "private_only": [site.name for site in plan.sites if site.private_only],
        "hosts": {site.name: site.size for site in plan.sites},
    }


def from_document(document: Mapping[str, Any]) -> LabPlan:
    return plan_lab(
        name=document["name"],
        registry=document["registry"],
        encrypt=document["encrypt"],
        gateways=document["gateways"],
        private_only=document["private_only"],
        hosts=dict(document["hosts"]),
    )


def namespace_prefix(lab: str) -> str:
    """How the names of all namespaces of a lab begin, and those of no other lab."""
    if not _LAB_NAME.fullmatch(lab):
        raise LabError(
            f"{lab!r} cannot be a lab's name: "
            "expected 1 to 12 of a-z and 0-9, beginning with a letter"
        )
    return f"neti-{lab}-"


def lab_command(lab: str, *words: str) -> str:
    """A ``neti lab`` command about this lab, so that a hint can be copied as it is."""
    return " ".join(("neti lab", *words, *(("--name", lab) if lab != DEFAULT_NAME else ())))


def _checked_size(size: int) -> int:
    if not 1 <= size <= MAX_HOSTS:
        raise LabError(f"a site of the lab has 1 to {MAX_HOSTS} hosts, not {size}")
    return size


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
