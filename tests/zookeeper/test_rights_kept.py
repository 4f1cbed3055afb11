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


def _admit(attempt: Attempt, layout: Layout) -> list[admission.Refused]:
    asked = [Asked("a", "CN=a,OU=hosts")]
    steps, refused = admission.plan(attempt, layout, asked, subnet=SUBNET)
    return [*refused, *admission.carry_out(attempt, layout, steps, SUBNET)]


def test_who_made_the_record_of_an_id_before_it_was_admitted_keeps_no_rights_unsaid(
    secure: SecureWorld,
) -> None:
    maker, chief = secure.open_as("host-b"), secure.open_as("operator-chief")
    acl = _with_more("a", "CN=b,OU=hosts")
    send(maker, lambda root: Create(f"{root}/hosts/a", b"1 - - -", acl, 0))
    (refused,) = chief.operate(_admit)
    assert "lets no operator change its rights" in refused.why
    assert chief.lease_of("a") is None


_OPERATORS = ACL(rights.ALL, Id("x509", "CN=chief,OU=operators"))
_WHOLE = {"id-to-ip/a": b"192.168.0.77", "ip-to-id/192.168.0.77": b"a"}
_OUTSIDE = {"id-to-ip/a": b"10.0.0.1", "ip-to-id/10.0.0.1": b"a"}


@pytest.mark.parametrize(
    ("made", "acl"),
    [
        ({"id-to-ip/a": b"192.168.0.77"}, [_OPERATORS, *_with_more("b")]),
        ({"id-to-ip/a": b"192.168.0.77"}, [ACL(rights.ALL, Id("x509", "CN=b,OU=hosts"))]),
        ({"id-to-ip/a": b"no address"}, _with_more("b", "CN=b,OU=hosts")),
        ({**_WHOLE, "ip-to-id/192.168.0.77": b"b"}, [_OPERATORS, *_with_more("b")]),
        (_OUTSIDE, [_OPERATORS, *_with_more("a")]),
        (_WHOLE, _with_more("a", "CN=b,OU=hosts")),
        (_WHOLE, [_OPERATORS, *_with_more("a", "CN=b,OU=hosts")]),
    ],
    ids=["half", "unreadable", "junk", "another's", "outside", "kept", "shared"],
)
@pytest.mark.parametrize("before", [False, True])
def test_nothing_that_was_made_for_an_id_keeps_its_host_out_once_it_is_admitted(
    secure: SecureWorld, made: dict[str, bytes], acl: list[ACL], before: bool
) -> None:
    """``before``: by a version whose admissions came without a lease."""
    secure.need_admission()
    chief, maker = secure.open_as("operator-chief"), secure.open_as("host-b")
    if before:
        own = [_OPERATORS, ACL(rights.READ | rights.WRITE, Id("x509", "CN=a,OU=hosts"))]
        acl_of_record = [*own, *rights.READ_ONLY]
        send(chief, lambda root: Create(f"{root}/hosts/a", b"1 - - -", acl_of_record, 0))
    for path, data in made.items():
        send(maker, lambda root, p=path, d=data: Create(f"{root}/{p}", d, acl, 0))  # type: ignore[misc]
    assert chief.operate(_admit) == []
    host = secure.open_as("host-a")
    had = chief.lease_of("a")
    overlay = host.acquire("a", SUBNET)
    assert overlay == had
    register(host, member("a", 1, overlay=overlay))
    assert host.leases()[overlay] == "a"
    # Of a host that has been here nothing is touched, and all is as it is to be.
    steps, _ = chief.operate(
        lambda attempt, layout: admission.plan(
            attempt, layout, [Asked("a", "CN=a,OU=hosts")], subnet=SUBNET
        )
    )
    assert [one.nothing for one in steps] == [True]


def test_an_admission_whose_lease_has_nodes_below_it_in_its_way_names_what_helps(
    secure: SecureWorld,
) -> None:
    maker, chief = secure.open_as("host-b"), secure.open_as("operator-chief")
    for path in ("id-to-ip/a", "id-to-ip/a/nail"):
        send(maker, lambda root, p=path: Create(f"{root}/{p}", b"", [*rights.OPEN], 0))  # type: ignore[misc]
    (refused,) = chief.operate(_admit)
    assert "nodes below it" in refused.why
    assert f"neti registry remove {secure.prefix}/id-to-ip/a" in refused.why
    assert chief.records() == {}
