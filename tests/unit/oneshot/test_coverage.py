"""Which member is which instance: private ranges repeat, ids and public addresses do not."""

from ipaddress import IPv4Address
from pathlib import Path
from types import MappingProxyType

from neti.fleet.registered import Registered
from neti.model import Member, Site
from neti.model.machine import Machine
from neti.model.settings import Settings
from neti.oneshot import coverage

SITES = {
    "ec2": Site(name="ec2", vpc_ids=("vpc-0a", "vpc-0c")),
    "vpc": Site(name="vpc", vpc_ids=("vpc-0b",)),
}
SETTINGS = Settings(
    path=Path("neti.yml"), sites=MappingProxyType(SITES), sites_configured=True, identity="auto"
)
SAME = "172.31.5.5"
PUBLIC = "198.51.100.7"


def _instance(name: str, vpc_id: str, public: str | None = None) -> Machine:
    return Machine(
        ids=(name,),
        cloud="ec2",
        vpc_id=vpc_id,
        privates=(IPv4Address(SAME),),
        publics=(IPv4Address(public),) if public else (),
    )


def _registered(host_id: str, site: str, public: str | None = None) -> Registered:
    member = Member(
        id=host_id,
        site=site,
        private=IPv4Address(SAME),
        public=IPv4Address(public) if public else None,
        overlay=IPv4Address("192.168.0.1"),
    )
    return Registered(members={host_id: member}, told={}, leases={}, skipped={})


def _overlays(registered: Registered, *instances: Machine) -> dict[str, str | None]:
    return {row.id: row.overlay for row in coverage.rows(instances, registered, SETTINGS)}


def _strangers(registered: Registered, *instances: Machine) -> list[str]:
    return [member.id for member in coverage.strangers(instances, registered, SETTINGS)]


def test_the_same_private_address_in_another_vpc_is_another_instance() -> None:
    """Only one of the two is registered, under its own instance id."""
    both = _instance("i-0a", "vpc-0a"), _instance("i-0b", "vpc-0b")
    registered = _registered("i-0a", "ec2")
    assert _overlays(registered, *both) == {"i-0a": "192.168.0.1", "i-0b": None}
    assert _strangers(registered, *both) == []
    assert _overlays(registered, both[1]) == {"i-0b": None}
    assert _strangers(registered, both[1]) == ["i-0a"]


def test_a_static_identity_is_the_instance_of_its_own_site() -> None:
    """Without a public address there is nothing else to go by."""
    both = _instance("i-0a", "vpc-0a"), _instance("i-0b", "vpc-0b")
    registered = _registered("db-1", "vpc")
    assert _overlays(registered, *both) == {"i-0a": None, "i-0b": "192.168.0.1"}
    assert _strangers(registered, *both) == []
    assert _strangers(registered, both[0]) == ["db-1"]


def test_of_two_instances_of_one_site_neither_is_taken_for_it() -> None:
    """Two VPCs of one site whose ranges are the same: a report shall not be too good."""
    both = _instance("i-0a", "vpc-0a"), _instance("i-0c", "vpc-0c")
    assert _overlays(_registered("db-1", "ec2"), *both) == {"i-0a": None, "i-0c": None}


def test_a_public_address_is_nobody_elses() -> None:
    """Even where no site lists the VPC, whose private addresses alone would prove nothing."""
    unlisted = _instance("i-0d", "vpc-0d", PUBLIC)
    assert _overlays(_registered("db-1", "vpc", PUBLIC), unlisted) == {"i-0d": "192.168.0.1"}
    assert _overlays(_registered("db-1", "vpc"), unlisted) == {"i-0d": None}
    assert _overlays(_registered("db-1", "vpc", "198.51.100.8"), unlisted) == {"i-0d": None}
