"""The plan of a lab and the commands that it becomes; nothing is built here."""

import json
from dataclasses import replace

import pytest

from neti.model import Encrypt
from neti_lab import LabError, ensemble, groups, neighbours
from neti_lab.agents import configuration
from neti_lab.pairs import judge, matrix
from neti_lab.report import drawing
from neti_lab.state import LabState
from neti_lab.topology import (
    MAX_HOSTS,
    RegistryKind,
    from_document,
    namespace_prefix,
    plan_lab,
    to_document,
)
from neti_lab.wiring import wire, wire_host


def test_the_same_private_addresses_on_both_sides_and_different_public_ones() -> None:
    ec2, vpc = plan_lab(hosts=4).sites
    assert [host.private for host in ec2.hosts] == [host.private for host in vpc.hosts]
    assert not {host.public for host in ec2.hosts} & {host.public for host in vpc.hosts}


@pytest.mark.parametrize("hosts", [1, 4, MAX_HOSTS])
def test_every_address_lies_in_its_sites_range_and_is_no_routers(hosts: int) -> None:
    for site in plan_lab(hosts=hosts).sites:
        assert len(site.hosts) == hosts
        for host in site.hosts:
            assert host.private in site.private
            assert host.public in site.public
            assert host.private != site.router


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_plan_survives_being_written_down(encrypt: bool) -> None:
    plan, _ = plan_lab(name="x1", hosts=3, registry="closed", encrypt=encrypt).with_host("vpc")
    assert from_document(json.loads(json.dumps(to_document(plan)))) == plan


def test_where_only_gateways_have_public_addresses_nobody_else_does() -> None:
    """Servers and proxies neither. They go out by one address, and are found by another."""
    plan = plan_lab(hosts=2, registry="ensemble", encrypt=True, gateways=True, private_only=["vpc"])
    assert from_document(json.loads(json.dumps(to_document(plan)))) == plan
    ec2, vpc = plan.sites
    assert [host.name for host in vpc.machines if host.public] == ["vpc-gw-1", "vpc-gw-2"]
    assert all(host.public for host in ec2.machines)
    assert {host.private for host in ec2.machines} == {host.private for host in vpc.machines}
    assert {vpc.outward(host) for host in (*vpc.workers, *vpc.keepers)} == {vpc.egress}
    machines = vpc.machines
    assert len({vpc.door(host, 80) for host in (*vpc.workers, *vpc.gateways)}) == 4
    own = {host.public for host in machines} | {host.private for host in machines}
    assert not {vpc.egress, vpc.front} & own
    for host in ec2.machines:
        assert (ec2.outward(host), ec2.door(host, 80)) == (host.public, (host.public, 80))
    both = replace(vpc, private_only=False)
    assert plan.without_public_addresses("ec2").site("vpc") == vpc
    assert replace(plan, sites=(ec2, both)).without_public_addresses("vpc") == plan


def test_hosts_without_a_public_address_need_gateways() -> None:
    for gateways, encrypt in ((True, False), (False, True)):
        with pytest.raises(LabError, match="need gateways, and these need encryption"):
            plan_lab(gateways=gateways, encrypt=encrypt, private_only=["ec2"])


def test_gateways_are_named_for_the_site_that_needs_them() -> None:
    plan = plan_lab(hosts=1, registry="closed", encrypt=True, gateways=True, private_only=["ec2"])
    document = configuration(plan, plan.hosts[0], state=LabState("lab"))
    assert document["sites"]["ec2"]["reached_by"] == "gateway"
    assert document["sites"]["ec2"]["gateways"] == ["ec2-gw-1", "ec2-gw-2"]
    assert document["sites"]["vpc"]["reached_by"] == "public"
    assert "gateways" not in document["sites"]["vpc"]


def test_a_pair_that_is_to_go_by_the_tunnel_is_seen_from_its_overlay_address() -> None:
    ec2, *_, vpc = plan_lab(hosts=1).hosts
    for seen, right in (("192.168.0.9", True), (str(ec2.public), False)):
        document = {"results": [_result("vpc-1", seen_from=seen)]}
        (pair,) = judge(ec2, [ec2, vpc], document, tunnel_from="192.168.0.9")
        assert pair.right_way is right


def test_an_ensembles_hosts_are_no_members_and_stand_in_one_site_each() -> None:
    """Servers in vpc, proxies in ec2; no address of theirs is a host's, however many there are."""
    plan = plan_lab(hosts=MAX_HOSTS, registry="ensemble")
    assert [keeper.name for keeper in plan.site("vpc").keepers] == [
        f"vpc-zk-{n}" for n in (1, 2, 3)
    ]
    assert len(plan.site("ec2").keepers) == 3
    assert not set(plan.keepers) & set(plan.hosts)
    assert {keeper.name for keeper in plan.keepers} <= set(plan.nodes)
    for site in plan.sites:
        addresses = [(machine.private, machine.public) for machine in site.machines]
        assert len(set(addresses)) == MAX_HOSTS + 3
    assert from_document(json.loads(json.dumps(to_document(plan)))) == plan
    assert not plan_lab(hosts=2, registry="zookeeper").keepers


def test_gateways_judge_only_where_the_lab_has_groups() -> None:
    """And a host that is added later is in its site's group."""
    plan = plan_lab(hosts=2, registry="ensemble")
    assert sum("table ip groups" in node.rules for node in wire(plan).nodes) == 2
    both = ensemble.callers(plan.site("ec2"))[:2]
    assert groups.admit_registry(plan.site("vpc").keepers, both).count(" . ") == 6
    grown, host = plan.with_host("vpc")
    assert (
        f"add element ip groups hosts {{ {host.private} }}" in wire_host(grown, host).nodes[0].rules
    )
    plain = plan_lab(hosts=2)
    assert not any("groups" in node.rules for node in wire(plain).nodes)
    assert "groups" not in wire_host(*plain.with_host("vpc")).nodes[0].rules


def test_a_host_more_changes_nobody_else() -> None:
    before = plan_lab(hosts=2)
    after, host = before.with_host("ec2")
    assert host.name == "ec2-3"
    assert set(after.hosts) - set(before.hosts) == {host}


@pytest.mark.parametrize("hosts", [0, -1, MAX_HOSTS + 1])
def test_a_site_has_1_to_50_hosts(hosts: int) -> None:
    with pytest.raises(LabError, match="1 to 50"):
        plan_lab(hosts=hosts)


@pytest.mark.parametrize("name", ["", "a-b", "../x", "A", "9lives", "x" * 13, "a b", "lab\n"])
def test_a_name_that_could_mean_something_else_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="cannot be a lab's name"):
        plan_lab(name=name)


def test_no_labs_namespaces_are_another_labs() -> None:
    assert not plan_lab(name="lab2").namespace("ec2-1").startswith(namespace_prefix("lab"))


def test_an_unknown_host_is_named_with_those_that_there_are() -> None:
    with pytest.raises(LabError, match=r"'db'.*ec2-1, vpc-1"):
        plan_lab(hosts=1).host("db")


def test_every_link_lies_between_two_namespaces_of_the_lab() -> None:
    plan = plan_lab(name="mine", hosts=3)
    plan, host = plan.with_host("vpc")
    for wiring in (wire(plan), wire_host(plan, host)):
        for link in wiring.links:
            words = link.split()
            ends = [words[at + 1] for at, word in enumerate(words) if word == "netns"]
            assert len(ends) == 2
            assert all(end.startswith("neti-mine-") for end in ends)
        assert all(node.namespace.startswith("neti-mine-") for node in wiring.nodes)


def test_every_namespace_is_created_once_and_furnished_once() -> None:
    plan = plan_lab(hosts=3)
    wiring = wire(plan)
    assert sorted(wiring.create) == sorted(plan.namespace(node) for node in plan.nodes)
    assert len({node.namespace for node in wiring.nodes}) == len(wiring.create)


def test_device_names_fit_the_kernel() -> None:
    for link in wire(plan_lab(name="x" * 12, hosts=MAX_HOSTS)).links:
        words = link.split()
        assert all(len(words[at]) <= 15 for at in (2, words.index("name") + 1))


@pytest.mark.parametrize("registry", ["embedded", "zookeeper", "closed"])
def test_a_hosts_configuration_says_nothing_of_the_machine(registry: RegistryKind) -> None:
    plan = plan_lab(hosts=1, registry=registry)
    document = configuration(plan, plan.hosts[0], state=LabState("lab"))
    assert document["identity"] == "ec2"
    assert document["table_files_path"].startswith("/run/neti-lab/lab/hosts/ec2-1")
    assert ("zk_hosts" in document) is (registry != "embedded")
    assert ("registry_tls" in document) is (registry == "closed")
    assert ("registry" in document) is (registry == "embedded")


@pytest.mark.parametrize("encrypt", Encrypt)
def test_hosts_that_can_encrypt_are_told_to_and_no_others(encrypt: Encrypt) -> None:
    for can in (False, True):
        plan = plan_lab(hosts=1, registry="closed", encrypt=can)
        document = configuration(plan, plan.hosts[0], state=LabState("lab"), encrypt=encrypt)
        expected = {encrypt.value} if can else {None}
        assert {site.get("encrypt") for site in document["sites"].values()} == expected


def test_the_drawing_of_a_large_lab_stays_small() -> None:
    assert len(drawing(plan_lab(hosts=MAX_HOSTS))) < 15


def _result(host: str, **more: object) -> dict[str, object]:
    return {"id": host, "ok": True, "milliseconds": 0.4, "error": None, **more}


def test_a_pair_that_went_the_wrong_way_is_not_well() -> None:
    hosts = plan_lab(hosts=1).hosts
    ec2, vpc = hosts
    to_vpc = {"results": [_result("vpc-1", seen_from=str(ec2.public))]}
    to_ec2 = {"results": [_result("ec2-1", seen_from=str(vpc.private))]}
    (right,), (wrong,) = judge(ec2, hosts, to_vpc), judge(vpc, hosts, to_ec2)
    assert right.right_way
    assert not wrong.right_way
    assert any("instead of 203.0.113.11" in line for line in matrix(hosts, [right, wrong]))


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"results": []}, "not among its members"),
        ({"error": "no agent answers"}, "no agent answers"),
    ],
)
def test_a_pair_that_verify_does_not_mention_is_not_well(
    document: dict[str, object], problem: str
) -> None:
    hosts = plan_lab(hosts=1).hosts
    pairs = judge(hosts[0], hosts, document)
    assert [(pair.milliseconds, pair.problem) for pair in pairs] == [(None, problem)]
    assert sum("FAIL" in line for line in matrix(hosts, pairs)) == 1


def test_hosts_of_a_site_need_not_ask_who_their_neighbours_are() -> None:
    """The kernel's table of asked ones is the machine's, and 50 hosts a site would fill it."""
    site, _ = plan_lab(hosts=MAX_HOSTS).sites
    host, *others = site.hosts
    lines = neighbours.of_host(site, host)
    for address in (site.router, *(other.private for other in others)):
        mac = neighbours.hardware_address(address)
        assert f"neigh replace {address} lladdr {mac} dev eth0 nud permanent" in lines
    assert not any(f"neigh replace {host.private} " in line for line in lines)
    assert f"link set eth0 address {neighbours.hardware_address(host.private)}" in lines
    known = set(neighbours.of_gateway(site))
    assert f"link set lan address {neighbours.hardware_address(site.router)}" in known
    assert len(known) == 1 + MAX_HOSTS
