"""``neti verify`` on a road that takes small packets and loses large ones without a word.

The narrow place is a route of the road between the sites, for one direction or both. Nobody hears
of what is too large there: ICMP "fragmentation needed" is dropped.
"""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from tests.support.tunnel_net import A, B, TwoSites, ip, nft, two_sites
from tests.support.wireguard_pair import module_there

from neti.agent.responder import Responder
from neti.agent.verify import verify_all
from neti.model import Road
from neti.monitoring.status import Registry, Status
from neti.ruleset.roads import tunnel_for

pytestmark = pytest.mark.kernel

NARROW = 1400
TIMEOUT = 3.0


@pytest.fixture(name="sites")
def _sites() -> Iterator[TwoSites]:
    with two_sites() as sites:
        responder = sites.b.inside(lambda: Responder(7077, B.site, lambda _source: True))
        responder.start()
        try:
            yield sites
        finally:
            responder.close()


def narrow(sites: TwoSites, *, there: bool = False, back: bool = False, told: bool = False) -> None:
    """``told``: who sends too much hears of it."""
    for end, wanted in ((B, there), (A, back)):
        if wanted:
            gateway = f"via {end.gateway} mtu lock {NARROW}"
            ip(sites.road, f"route replace {end.public}/32 {gateway}")
    if not told:
        nft(
            sites.road,
            "table inet silence { chain out { type filter hook output priority 0; "
            "icmp type destination-unreachable drop; }; }",
        )


def written(sites: TwoSites, mtu: int) -> None:
    """``sites.vpc.mtu``, in a's file only."""
    a = sites.a
    there = replace(a.settings.sites[B.site], mtu=mtu)
    a.settings = replace(a.settings, sites={**a.settings.sites, B.site: there})
    tunnel = tunnel_for(a.settings, a.host, IPv4Address(A.overlay), a.uplink_mtu)
    assert tunnel is not None
    a.mtu = tunnel.mtu
    ip(a.net.host, f"link set neti0 mtu {tunnel.mtu}")
    a.resync()


def verified(sites: TwoSites, road: Road = Road.PLAIN) -> dict[str, Any]:
    """By a."""
    itself = Status(
        version="1",
        id=A.site,
        site=A.site,
        private=str(sites.a.host.private),
        public=A.public,
        overlay=A.overlay,
        registry=Registry(fresh=True),
    )
    member = {"id": B.site, "site": B.site, "overlay": B.overlay, "road": road.value}
    settings = sites.a.settings
    (result,) = sites.a.inside(lambda: verify_all(settings, itself, [member], timeout=TIMEOUT))
    return result


def test_a_road_that_carries_what_is_said_passes_full_packets_both_ways(sites: TwoSites) -> None:
    result = verified(sites)
    assert (result["ok"], result["reached_by"], result["seen_from"]) == (True, "public", A.public)
    assert result["packets"] == {"there": 1500, "back": 1500}
    assert result["lost"] is None
    sites.both(Road.PREFERRED)
    result = verified(sites, Road.PREFERRED)
    assert (result["ok"], result["reached_by"]) == (True, "encrypted")
    assert result["packets"] == {"there": sites.a.mtu, "back": sites.a.mtu}


@pytest.mark.parametrize("way", ["there", "back", "both"])
def test_a_road_that_loses_large_packets_is_named_with_what_passes(
    sites: TwoSites, way: str
) -> None:
    """And what is said of it is true: with that MTU written, it passes."""
    narrow(sites, there=way in ("there", "both"), back=way in ("back", "both"))
    result = verified(sites)
    assert result["lost"] == {"packet": 1500, "way": way, "largest": NARROW}
    assert (result["ok"], result["seen_from"], result["packets"]) == (False, A.public, None)
    assert f"set sites.{B.site}.mtu to {NARROW}, or let ICMP" in result["error"]
    written(sites, NARROW)
    assert verified(sites)["packets"] == {"there": NARROW, "back": NARROW}


def test_who_hears_of_it_passes(sites: TwoSites) -> None:
    narrow(sites, there=True, back=True, told=True)
    result = verified(sites)
    assert result["ok"]
    assert result["packets"] == {"there": NARROW, "back": NARROW}


def test_a_tunnel_that_loses_large_packets_is_named_with_what_surrounds_them(
    sites: TwoSites,
) -> None:
    """WireGuard fills packets up to 16 bytes, and puts 60 around them."""
    if module_there():
        pytest.skip("the module's own packets may be cut on the way, so nothing is lost")
    narrow(sites, there=True, back=True)
    sites.both(Road.PREFERRED)
    result = verified(sites, Road.PREFERRED)
    assert result["lost"] == {"packet": 1420, "way": "both", "largest": 1328}
    assert (result["reached_by"], result["seen_from"]) == ("encrypted", A.overlay)
    assert result["error"].endswith(f"set sites.{B.site}.mtu to 1388")
    written(sites, 1388)
    assert verified(sites, Road.PREFERRED)["packets"] == {"there": 1308, "back": 1308}
