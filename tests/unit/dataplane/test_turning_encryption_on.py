"""A table gets the tunnel's sets, or loses them, and nothing else of what it holds."""

from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import pytest
from tests.support.agents import FakeConnections

from neti.dataplane.memory import MemoryDataplane
from neti.dataplane.reconciler import Reconciler
from neti.model import Encrypt, Host, Member, Road, Site
from neti.model.settings import Settings
from neti.ruleset.delta import Elements
from neti.ruleset.enforce import PERMANENT, Enforcement
from neti.ruleset.objects import GATEWAY_SETS, OPTIONAL, Structure
from neti.ruleset.plan import Rewrite
from neti.ruleset.policy import structure
from neti.ruleset.reach import elements_of
from neti.ruleset.surroundings import Surroundings, Tunnel

HOST: Final = Host(id="me", site="ec2", private=IPv4Address("10.0.0.1"), public=None)
STAYS: Final = Member(
    id="db-1",
    site="vpc",
    private=IPv4Address("10.0.0.5"),
    public=IPv4Address("203.0.113.5"),
    overlay=IPv4Address("192.168.0.5"),
)
GOES: Final = replace(
    STAYS, id="db-2", public=IPv4Address("203.0.113.6"), overlay=IPv4Address("192.168.0.6")
)


def built(encrypt: Encrypt) -> Structure:
    sites = {"ec2": Site(name="ec2"), "vpc": Site(name="vpc", encrypt=encrypt)}
    tunnel = Tunnel(own=IPv4Address("192.168.0.1"), private=HOST.private, mtu=1420)
    around = Surroundings(uplinks=("eth0",), ssh_untracked=True, site="ec2", tunnel=tunnel)
    return structure(Settings(path=Path("neti.yml"), sites=sites), around)


def told(elements: Elements, member: Member, before: Road | None, after: Road | None) -> None:
    for road, act in ((before, elements.unwant), (after, elements.want)):
        for one in elements_of(member, host=HOST, sites={}, road=road) if road else ():
            act(one.where, one.key, one.value)


@pytest.mark.parametrize("trial", [True, False])
def test_it_is_a_new_table_that_keeps_what_ends_by_the_clock(trial: bool) -> None:
    """Removed sources, the grace time, a trial; no connection is ended. There and back."""
    dataplane, connections = MemoryDataplane(), FakeConnections()
    reconciler, elements = Reconciler(dataplane, connections, None), Elements(revoke_seconds=60)
    for member in (STAYS, GOES):
        told(elements, member, None, Road.PLAIN)
    reconciler.resync(built(Encrypt.OFF), elements)
    told(elements, GOES, Road.PLAIN, None)
    elements.enforce(Enforcement(seconds=500) if trial else PERMANENT)
    reconciler.resync(built(Encrypt.OFF), elements)
    if trial:
        reconciler.begin_trial(elements)
    before = dataplane.read()
    assert before.missing == OPTIONAL
    assert before.timed["revoked4"].keys() == {"203.0.113.6"}
    assert before.armed
    assert before.armed_for_good is not trial
    steps = ((Encrypt.PREFER, Road.TRYING), (Encrypt.OFF, Road.PLAIN))
    held = Road.PLAIN
    for encrypt, road in steps:
        told(elements, STAYS, held, road)
        held = road
        done = reconciler.resync(built(encrypt), elements)
        now = dataplane.read()
        assert done.planned.structure is Rewrite.ALL
        assert bool(now.missing - GATEWAY_SETS) is (encrypt is Encrypt.OFF)
        assert (now.timed, now.enforce) == (before.timed, before.enforce)
        assert reconciler.resync(built(encrypt), elements).planned.structure is Rewrite.NOTHING
    assert connections.ended == []


def test_only_real_addresses_become_removed_sources_where_encryption_is_required() -> None:
    dataplane = MemoryDataplane()
    reconciler, elements = (
        Reconciler(dataplane, FakeConnections(), None),
        Elements(revoke_seconds=9),
    )
    told(elements, STAYS, None, Road.PLAIN)
    reconciler.resync(built(Encrypt.OFF), elements)
    told(elements, STAYS, Road.PLAIN, Road.REQUIRED)
    reconciler.resync(built(Encrypt.REQUIRE), elements)
    now = dataplane.read()
    assert now.timed["revoked4"] == {"203.0.113.5": 9}
    assert not now.elements["peers4"]
    assert not now.elements["overlay"]
    assert now.elements["tunneled"] == now.elements["tunnel_peers"] == {"192.168.0.5": ""}
