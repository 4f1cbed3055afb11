"""Where Neti must not run: on the registry's hosts, and where something lies inside the overlay."""

from ipaddress import IPv4Network, ip_address
from pathlib import Path
from types import MappingProxyType

import pytest

from neti.errors import ConfigError
from neti.identity import preflight
from neti.identity.preflight import (
    overlay_conflicts,
    refuse_on_registry_host,
    refuse_overlay_conflicts,
    registry_addresses,
)
from neti.model import IPAddress
from neti.settings import Settings



def listing(**hosts: tuple[str, ...]) -> Settings:
    return Settings(path=Path("/etc/neti/neti.yml"), zk_hosts=MappingProxyType(hosts))


def resolved(name: str) -> list[IPAddress]:
    known = {"zk.example.com": "10.0.0.6", "fd00::7": "fd00::7"}
    try:
        return [ip_address(known.get(name, name))]
    except ValueError:
        return []


@pytest.mark.parametrize("own", ["10.0.0.5", "10.0.0.6", "fd00::7"])
def test_a_registry_host_must_not_run_neti(own: str) -> None:
    """A host that zk_hosts lists, by address or name, is refused with its address."""
    settings = listing(ec2=("10.0.0.5:2181", "zk.example.com:2181", "[fd00::7]:2181", "gone:2181"))
    registry = registry_addresses(settings, resolve=resolved)
    with pytest.raises(ConfigError, match="must not run Neti") as caught:
        refuse_on_registry_host(registry, [ip_address("10.0.0.99"), ip_address(own)])
    assert own in str(caught.value)
    refuse_on_registry_host(registry, [ip_address("10.0.0.99")])


def test_another_sites_private_address_is_another_host() -> None:
    """Another site's private address does not refuse this site's host that shares it."""
    settings = listing(ec2=("10.0.0.5:2181", "8.8.8.8:2181"), vpc=("10.0.0.7:2181",))
    own = set(registry_addresses(settings, "vpc", resolve=resolved))
    assert own == {ip_address("10.0.0.7"), ip_address("8.8.8.8")}
    assert ip_address("10.0.0.5") in registry_addresses(settings, resolve=resolved)


def test_names_that_no_resolver_takes_are_left_out() -> None:
    """A name that cannot be looked up raises nothing and refuses nobody."""
    assert registry_addresses(listing(ec2=("a" * 70 + ".example:2181",))) == {}


def test_what_lies_inside_the_overlay_is_named() -> None:
    """Each route, address and resolver inside the overlay is named, and nothing outside it."""
    overlay = IPv4Network("192.168.0.0/18")
    conflicts = overlay_conflicts(
        overlay,
        routes=[
            (IPv4Network("192.168.16.0/20"), "docker0"),
            (IPv4Network("0.0.0.0/0"), "eth0"),
            (IPv4Network("192.168.64.0/20"), "eth1"),
        ],
        addresses=[ip_address("192.168.16.1"), ip_address("10.0.0.1"), ip_address("fe80::1")],
        resolvers=[ip_address("192.168.0.2"), ip_address("127.0.0.53")],
    )
    assert conflicts == (
        "route 192.168.16.0/20 dev docker0",
        "address 192.168.16.1",
        "resolver 192.168.0.2",
    )


def test_an_overlay_conflict_is_refused_by_name() -> None:
    """A route of Docker's inside the overlay is refused by its name."""
    overlay = IPv4Network("192.168.0.0/18")
    routes = [(IPv4Network("192.168.16.0/20"), "docker0")]
    with pytest.raises(ConfigError, match=r"route 192\.168\.16\.0/20 dev docker0"):
        refuse_overlay_conflicts(overlay, routes=routes, addresses=[], resolvers=[])
    refuse_overlay_conflicts(overlay, routes=[], addresses=[], resolvers=[])
