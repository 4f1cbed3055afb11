"""Where Neti must not run: on the registry's hosts, and where something lies inside the overlay."""

import dataclasses
import re
import threading
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
from neti.model.settings import Settings

OVERLAY = IPv4Network("192.168.0.0/18")


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
    conflicts = overlay_conflicts(
        OVERLAY,
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
    routes = [(IPv4Network("192.168.16.0/20"), "docker0")]
    with pytest.raises(ConfigError, match=r"route 192\.168\.16\.0/20 dev docker0"):
        refuse_overlay_conflicts(OVERLAY, routes=routes, addresses=[], resolvers=[])
    refuse_overlay_conflicts(OVERLAY, routes=[], addresses=[], resolvers=[])


@pytest.mark.parametrize(
    ("network", "inside"),
    [
        ("192.168.0.0/18", True),  # the same range
        ("192.168.63.255/32", True),
        ("192.168.0.0/16", False),  # one around it is how the overlay is reached elsewhere
        ("192.168.64.0/18", False),
        ("0.0.0.0/0", False),
    ],
)
def test_only_a_route_inside_the_overlay_conflicts(network: str, inside: bool) -> None:
    """A route to a part of the overlay takes it away; one around it or beside it does not."""
    routes = [(IPv4Network(network), "br-1f")]
    conflicts = overlay_conflicts(OVERLAY, routes=routes, addresses=[], resolvers=[])
    assert conflicts == ((f"route {network} dev br-1f",) if inside else ())


@pytest.mark.parametrize(
    ("addresses", "resolvers", "says"),
    [
        (["192.168.16.1"], [], "address 192.168.16.1"),
        ([], ["192.168.0.2"], "resolver 192.168.0.2"),
    ],
)
def test_addresses_and_resolvers_inside_the_overlay_are_refused(
    addresses: list[str], resolvers: list[str], says: str
) -> None:
    """An own address or a resolver inside the overlay is refused, and the way out is named."""
    with pytest.raises(ConfigError, match=re.escape(says)) as caught:
        refuse_overlay_conflicts(
            OVERLAY,
            routes=[],
            addresses=map(ip_address, addresses),
            resolvers=map(ip_address, resolvers),
        )
    assert "Choose another overlay_subnet" in str(caught.value)
    assert "default-address-pools" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_resolvers_are_those_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's resolv.conf is read, and whatever is odd in it is passed over."""
    conf = tmp_path / "resolv.conf"
    conf.write_bytes(
        b"# nameserver 192.168.0.9\n"
        b"search example.com\n"
        b"nameserver 192.168.0.2 # Docker's\n"
        b"nameserver fe80::1%eth0\n"
        b"nameserver\n"
        b"nameserver \xff\n"
        b"nameserver 10.0.0.2\n"
    )
    monkeypatch.setattr(preflight, "_RESOLV_CONF", conf)
    assert overlay_conflicts(OVERLAY, routes=[], addresses=[]) == ("resolver 192.168.0.2",)
    conf.unlink()
    assert overlay_conflicts(OVERLAY, routes=[], addresses=[]) == ()


def test_a_registry_on_the_loopback_refuses_nobody() -> None:
    """The loopback's address is everyone's, so a list for trying things out refuses no host."""
    registry = registry_addresses(listing(ec2=("127.0.0.1:2181",)))
    refuse_on_registry_host(registry, [ip_address("127.0.0.1"), ip_address("10.0.0.1")])


def test_the_embedded_registry_has_no_hosts() -> None:
    """With the embedded registry, zk_hosts is not used for refusing either."""
    settings = dataclasses.replace(listing(ec2=("10.0.0.5:2181",)), embedded=Path("/r.db"))
    assert registry_addresses(settings) == {}


def test_a_host_that_is_listed_by_name_is_named_as_listed() -> None:
    """The refusal shows the entry of zk_hosts as it was written, for finding it in the file."""
    registry = registry_addresses(listing(ec2=("zk.example.com:2181",)), resolve=resolved)
    with pytest.raises(ConfigError, match=r"10\.0\.0\.6.*zk\.example\.com:2181"):
        refuse_on_registry_host(registry, [ip_address("10.0.0.6")])


def test_dead_dns_costs_one_limit_for_all_names() -> None:
    """Names that nobody resolves are left out together; what can be told is not held up by them."""
    ask = threading.Event()  # never set: a resolver that does not answer

    def resolver(name: str) -> list[IPAddress]:
        if name.startswith("dead"):
            ask.wait()
        return resolved(name)

    names = tuple(f"dead-{number}.example.com:2181" for number in range(6))
    settings = listing(vpc=names, ec2=("zk.example.com:2181", "10.0.0.5:2181"))
    try:
        found = registry_addresses(settings, "ec2", resolve=resolver, patience=1.0)
    finally:
        ask.set()
    assert set(found) == {ip_address("10.0.0.6"), ip_address("10.0.0.5")}


def test_what_two_sites_list_is_named_as_the_own_site_lists_it() -> None:
    settings = listing(ec2=("8.8.8.8:2181",), vpc=("8.8.8.8:2182",))
    assert list(registry_addresses(settings, "vpc").values()) == ["8.8.8.8:2182"]
