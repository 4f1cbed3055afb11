"""Who reaches a port goes by operators' groups, and goes on so when an address moves to the other
site: real agents, real packets. ``neti lab migrate --groups`` is the same with a whole fleet."""

import json
from functools import partial

import pytest
import yaml
from tests.lab.test_lease_move import answers, eventually, neti

from neti_lab import agents, lifecycle
from neti_lab.state import LabState
from neti_lab.topology import WEB_PORT, LabHost, plan_lab

pytestmark = [pytest.mark.lab, pytest.mark.zookeeper]

_PORTS = {f"{WEB_PORT}/tcp": ["app"], "all": ["ops"]}


def test_who_reaches_a_port_is_the_same_after_its_address_moved_to_the_other_site(
    lab: LabState,
) -> None:
    """By a pattern, by an id that follows, and not at all for a member that is in no group."""
    plan = plan_lab(name=lab.name, hosts=2, registry="zookeeper")
    lifecycle.bring_up(lab, plan)
    client, old, outsider, new = plan.hosts
    service, own = (neti(plan, lab, host, "overlay-ip", "--wait", "20") for host in (old, new))
    neti(plan, lab, client, "group", "set", "app", "*-1", "--site", client.site)
    neti(plan, lab, client, "group", "set", "ops", old.name)
    for host in (old, new):
        configure(lab, host, _PORTS)
        eventually(partial(is_in, lab, host, "waiting"))

    def in_force(host: LabHost, overlay: str) -> bool:
        assert answers(plan, client, overlay) == host.name, "no trial keeps the group's member out"
        return is_in(lab, host, "in force")

    for host, overlay in ((old, service), (new, own)):
        agents.neti(plan, host, "enforce", "--trial", "5", "--no-follow", state=lab)
        eventually(partial(in_force, host, overlay), 40)
        assert answers(plan, outsider, overlay) is None
    assert answers(plan, old, own) == new.name, "group ops reaches every port"

    neti(plan, lab, client, "group", "add", "ops", new.name)
    agents.neti(plan, old, "leave", state=lab)
    said = neti(plan, lab, client, "lease", "move", old.name, new.name)
    assert "group" not in said, "the new host is in each group of the old one"
    eventually(lambda: answers(plan, client, service) == new.name)
    assert answers(plan, outsider, service) is None
    neti(plan, lab, client, "group", "remove", "ops", old.name)
    assert json.loads(neti(plan, lab, client, "group", "show", "ops", "--json"))["members"] == [
        new.name
    ]
    assert is_in(lab, new, "in force")
    configure(lab, new, {})
    eventually(lambda: answers(plan, outsider, service) == new.name)


def configure(lab: LabState, host: LabHost, ports: dict[str, list[str]]) -> None:
    config = lab.config(host.name)
    document = yaml.safe_load(config.read_text()) | {"member_ports": ports}
    config.write_text(yaml.safe_dump(document))
    agents.reload(host, state=lab)


def is_in(lab: LabState, host: LabHost, state: str) -> bool:
    text = agents.neti(lab.plan(), host, "status", "--json", state=lab).stdout
    return bool(json.loads(text)["member_ports"] == state)
