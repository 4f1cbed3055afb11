"""Which member is which instance: private ranges repeat, ids and public addresses do not."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

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


def _whys(registered: Registered, *machines: Machine) -> list[str | None]:
    return [row.why for row in coverage.rows(machines, registered, SETTINGS)]


def _some(
    *ids: str, privates: tuple[str, ...] = (), publics: tuple[str, ...] = (), **more: Any
) -> Machine:
    """As a CSV or Ansible lists it."""
    return Machine(
        ids=ids,
        name=ids[0],
        privates=tuple(map(IPv4Address, privates)),
        publics=tuple(map(IPv4Address, publics)),
        complete=False,
        **more,
    )


def test_what_a_list_does_not_state_is_not_judged() -> None:
    """Only a private address, none at all, or a public one where the private one stands."""
    registered = _registered("web-1", "ec2", PUBLIC)
    for machine in (
        _some("web-1", privates=(SAME,)),
        _some("web-1"),
        _some("web-1", privates=(PUBLIC,)),
        _some("web-1", privates=(SAME,), publics=(PUBLIC,)),
    ):
        assert _whys(registered, machine) == [None]


@pytest.mark.parametrize(
    ("privates", "publics"),
    [(("10.9.9.9",), ()), ((SAME,), ("198.51.100.99",)), (("10.9.9.9",), (PUBLIC,))],
)
def test_what_a_list_states_otherwise_is_said(
    privates: tuple[str, ...], publics: tuple[str, ...]
) -> None:
    machine = _some("web-1", privates=privates, publics=publics)
    (why,) = _whys(_registered("web-1", "ec2", PUBLIC), machine)
    assert why == f"registered with other addresses: {SAME}, {PUBLIC}"


def test_a_list_that_says_nothing_of_public_addresses_does_not_say_that_there_is_none() -> None:
    empty = Registered(members={}, told={}, leases={}, skipped={})
    assert _whys(empty, _some("web-1", privates=(SAME,))) == ["no agent"]
    told = _whys(empty, _instance("i-0a", "vpc-0a"))
    assert told == ["no agent; it has no public address either"]


@pytest.mark.parametrize("member", ["4513456781234567890", "451345678123456", "web-one"])
def test_a_list_without_a_clouds_ids_is_matched_by_addresses(member: str) -> None:
    """Its agent has the cloud's id, and the list has names."""
    machine = _some("web-1", privates=(SAME,), publics=(PUBLIC,))
    assert _overlays(_registered(member, "ec2", PUBLIC), machine) == {"web-1": "192.168.0.1"}


@pytest.mark.parametrize("member", ["4513456781234567890", "451345678123456"])
def test_two_ids_of_clouds_are_two_machines(member: str) -> None:
    """Google's numbers are random: some are shorter than others."""
    machine = _instance("i-0a", "vpc-0a", PUBLIC)
    assert _overlays(_registered(member, "ec2", PUBLIC), machine) == {"i-0a": None}


def test_two_machines_of_one_name_are_told_apart() -> None:
    """Two lines of a CSV: one is the member, by its addresses."""
    both = _some("web-1", privates=(SAME,)), _some("web-1", privates=("10.9.9.9",))
    registered = _registered("by-hand", "ec2", PUBLIC)
    vpc = [replace(machine, vpc_id="vpc-0a") for machine in both]
    made = coverage.rows(vpc, registered, SETTINGS)
    assert [(row.private, row.in_neti) for row in made] == [(SAME, True), ("10.9.9.9", False)]


WIDE = replace(SITES["ec2"], private=(IPv4Network("172.16.0.0/12"),))


@pytest.mark.parametrize(
    "settings",
    [
        replace(SETTINGS, sites=MappingProxyType({**SITES, "ec2": WIDE})),
        replace(SETTINGS, sites_configured=False),
    ],
)
def test_without_its_vpc_an_instances_site_is_unknown(settings: Settings) -> None:
    """A Terraform state holds no VPC. EC2's own list knows when there is none, as in 2014."""
    silent = _some("i-0a", privates=(SAME,), cloud="ec2")
    assert coverage.own_site(silent, settings) == coverage.UNKNOWN_SITE
    if not settings.sites_configured:
        assert coverage.own_site(replace(silent, complete=True), settings) == "ec2"


def test_a_network_of_google_is_found_by_its_last_part() -> None:
    """Lists have the project's name where its agent has the number. Where two sites list such a
    network, nothing is guessed."""
    one = Site(name="one", networks=("projects/81/networks/prod",))
    two = Site(name="two", networks=("projects/82/networks/test",))
    machine = Machine(ids=("7",), cloud="gcp", networks=("Prod",), privates=(IPv4Address(SAME),))
    found = {}
    for second in (two, replace(two, networks=("projects/82/networks/prod",))):
        sites = MappingProxyType({"one": one, "two": second})
        found[second.networks[0]] = coverage.own_site(machine, replace(SETTINGS, sites=sites))
    assert found == {
        "projects/82/networks/test": "one",
        "projects/82/networks/prod": coverage.UNKNOWN_SITE,
    }
