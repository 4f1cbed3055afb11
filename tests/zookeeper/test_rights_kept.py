"""Nodes that somebody made for a host before it came, and kept rights on, on a real ZooKeeper."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from kazoo.protocol.serialization import Create, Delete
from kazoo.security import ACL, Id
from tests.support.zookeeper import SecureWorld

from neti.errors import LeaseConflict, RegistryError
from neti.model import Member, entry
from neti.registry.admitted import Asked
from neti.registry.zookeeper import admission, rights
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.layout import Layout
from neti.registry.zookeeper.registry import ZooKeeperRegistry

pytestmark = pytest.mark.zookeeper

SUBNET = IPv4Network("192.168.0.0/24")


def send(registry: ZooKeeperRegistry, make: Callable[[str], Any]) -> Any:
    """A request that no agent makes; ``make`` gets the tree's root."""
    return registry.inspect(lambda attempt, layout: attempt.each([make(layout.root)])[0])


def member(host_id: str, number: int, *, overlay: IPv4Address) -> Member:
    private = IPv4Address(f"10.0.0.{number}")
    return Member(id=host_id, site="ec2", private=private, public=None, overlay=overlay)


def register(registry: ZooKeeperRegistry, one: Member) -> None:
    registry.register(
        host_id=one.id, name=entry.encode(one), data=b"", detail=b"{}", overlay=one.overlay
    )


def _with_more(host: str, *others: str, scheme: str = "x509") -> list[ACL]:
    """The rights that an agent gives, and all rights to others as well."""
    own = ACL(rights.READ, Id("x509", f"CN={host},OU=hosts"))
    return [*(ACL(rights.ALL, Id(scheme, one)) for one in others), own, *rights.READ_ONLY]


def test_a_host_takes_no_lease_that_its_maker_could_give_to_another(secure: SecureWorld) -> None:
    """Whoever made it before the host came would take the address once the host is there."""
    host, maker = secure.open_as("host-a"), secure.open_as("host-b")
    acl = _with_more("a", "CN=b,OU=hosts")
    send(maker, lambda root: Create(f"{root}/id-to-ip/a", b"192.168.0.77", acl, 0))
    send(maker, lambda root: Create(f"{root}/ip-to-id/192.168.0.77", b"a", acl, 0))
    with pytest.raises(LeaseConflict, match="written by CN=b,OU=hosts, who could give"):
        host.acquire("a", SUBNET)
    had = IPv4Address("192.168.0.77")
    assert host.acquire("a", SUBNET, prefer=had) == had  # such as after an operator was taken out
    assert str(secure.open_as("operator-chief").release("a")) == "192.168.0.77"
    assert host.acquire("a", SUBNET) == host.acquire("a", SUBNET)


@pytest.mark.parametrize(
    "acl",
    [
        [*_with_more("a", "CN=b,OU=hosts"), ACL(rights.WRITE, Id("x509", "CN=a,OU=hosts"))],
        [*_with_more("a", "127.0.0.1", scheme="ip")],
        [ACL(rights.ALL, Id("world", "anyone"))],
    ],
)
def test_a_host_says_nothing_by_a_record_that_its_maker_could_write(
    secure: SecureWorld, acl: list[ACL]
) -> None:
    """Whoever made it before the host came would speak for the host once it is there."""
    host, maker = secure.open_as("host-a"), secure.open_as("host-b")
    overlay = host.acquire("a", SUBNET)
    send(maker, lambda root: Create(f"{root}/hosts/a", b"1 - - -", acl, 0))
    with pytest.raises(RegistryError, match="whoever made it could speak for a"):
        register(host, member("a", 1, overlay=overlay))
    assert not host.names()
    assert not isinstance(
        send(secure.open_as("operator-chief"), lambda root: Delete(f"{root}/hosts/a", -1)),
        Exception,
    )
    register(host, member("a", 2, overlay=overlay))


def test_who_made_nodes_of_an_id_before_it_was_admitted_keeps_no_rights_unsaid(
    secure: SecureWorld,
) -> None:
    maker, chief = secure.open_as("host-b"), secure.open_as("operator-chief")
    acl = _with_more("a", "CN=b,OU=hosts")
    send(maker, lambda root: Create(f"{root}/id-to-ip/a", b"192.168.0.77", acl, 0))
    send(maker, lambda root: Create(f"{root}/ip-to-id/192.168.0.77", b"a", acl, 0))

    def admit(attempt: Attempt, layout: Layout) -> list[admission.Refused]:
        steps, refused = admission.plan(attempt, layout, [Asked("a", "CN=a,OU=hosts")])
        return [*refused, *admission.carry_out(attempt, layout, steps)]

    (refused,) = chief.operate(admit)
    assert "lets no operator change its rights" in refused.why
