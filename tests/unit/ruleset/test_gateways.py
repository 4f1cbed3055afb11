"""Who goes through which gateway: whatever each one believes, a packet arrives, and comes from
where WireGuard has the sender."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.model import Host, Member, Reach, Site
from neti.model.gateways import Gateway, GatewayPorts
from neti.ruleset.gateways import HostMaps, Passage, Way, chosen, sharing
from neti.ruleset.peers import Endpoint

SUBNET: Final = IPv4Network("192.168.0.0/18")
PORTS: Final = GatewayPorts(SUBNET, 51820)
NUMBERS: Final = {"ec2": "198.51.100", "vpc": "203.0.113", "lab": "192.0.2"}
SITES: Final = {name: Site(name=name) for name in NUMBERS}


def member(id: str, site: str, last: int, overlay: int, public: bool | int = False) -> Member:
    there = last if public is True else public
    return Member(
        id=id,
        site=site,
        private=IPv4Address(f"10.0.0.{last}"),
        public=IPv4Address(f"{NUMBERS[site]}.{there}") if public else None,
        overlay=SUBNET[overlay],
    )


def as_host(one: Member) -> Host:
    return Host(id=one.id, site=one.site, private=one.private, public=one.public)


GX, GY = member("gx", "ec2", 2, 1, True), member("gy", "vpc", 2, 2, True)
A, B, P = member("a", "ec2", 11, 3), member("b", "vpc", 11, 4), member("p", "vpc", 12, 5, True)
FLEET: Final = (GX, GY, A, B, P)
NAMED: Final = {"ec2": ["gx"], "vpc": ["gy"]}


def passage(
    *members: Member,
    sites: Mapping[str, Site] = SITES,
    named: Mapping[str, list[str]] = NAMED,
    live: frozenset[str] = frozenset({"gx", "gy"}),
) -> Passage:
    return Passage(members or FLEET, sites, named, live, PORTS)


# --- ways and endpoints ---


def test_the_way_of_each_kind_of_pair() -> None:
    seen = passage()
    assert seen.way(A, GX) is Way.INSIDE
    assert seen.way(GX, P) is Way.DIRECT
    assert seen.way(GX, GY) is Way.DIRECT
    assert seen.way(A, B) is seen.way(A, P) is seen.way(GX, B) is Way.GATEWAY
    linked = {**SITES, "vpc": Site(name="vpc", reached_by=Reach.PRIVATE)}
    assert passage(sites=linked).way(A, B) is Way.LINK
    assert passage(sites=linked).way(B, A) is Way.LINK
    assert passage(named={"ec2": ["gx"]}).way(A, B) is Way.NONE
    assert passage(named={"ec2": ["gx"]}).way(A, P) is Way.GATEWAY


def test_the_endpoint_of_each_kind_of_pair() -> None:
    seen = passage()
    assert seen.endpoint(as_host(A), GX) is None
    assert seen.endpoint(as_host(GX), P) == Endpoint(P.public or P.private, 51820)
    assert seen.endpoint(as_host(A), B) == Endpoint(GX.private, 16384 + 4)
    assert seen.endpoint(as_host(A), P) == Endpoint(GX.private, 16384 + 5)
    assert seen.endpoint(as_host(P), A) == Endpoint(GX.public or GX.private, 16384 + 3)
    linked = {**SITES, "vpc": Site(name="vpc", reached_by=Reach.PRIVATE)}
    assert passage(sites=linked).endpoint(as_host(A), B) == Endpoint(B.private, 51820)
    assert passage(named={}).endpoint(as_host(A), B) is None


def test_what_is_joined_by_a_link_is_in_no_map() -> None:
    linked = {**SITES, "vpc": Site(name="vpc", reached_by=Reach.PRIVATE)}
    seen = passage(sites=linked)
    assert seen.at_host(as_host(P)) == HostMaps()
    maps = seen.at_gateway(seen.gateways("ec2")[0])
    assert (maps.direct, maps.public) == ({}, {})


def test_hosts_that_share_a_public_address_are_behind() -> None:
    one, other = member("p", "vpc", 12, 5, 50), member("q", "vpc", 13, 6, 50)
    seen = passage(GX, GY, A, one, other)
    assert seen.way(GX, one) is Way.GATEWAY
    assert seen.at_host(as_host(one)).behind
    assert passage(GX, GY, A, one).way(GX, one) is Way.DIRECT


def test_who_claims_an_address_cuts_nobody_off_whose_site_has_no_gateway() -> None:
    claims = member("claims", "vpc", 13, 6, 12)
    seen = passage(GX, A, P, claims, named={"ec2": ["gx"]})
    assert seen.way(GX, P) is Way.DIRECT
    assert seen.way(A, P) is Way.GATEWAY
    assert seen.endpoint(as_host(GX), P) == Endpoint(P.public or P.private, 51820)
    assert not seen.at_host(as_host(P)).behind
    maps = seen.at_gateway(seen.gateways("ec2")[0])
    assert maps.direct == {PORTS.port(one.overlay): P.public for one in (P, claims)}
    assert set(maps.public) == {P.public}


def test_who_claims_a_gateways_address_does_not_take_its_office() -> None:
    """It is behind then, as others that share one are."""
    claims = member("claims", "vpc", 13, 6, 2)
    seen = passage(*FLEET, claims)
    assert [g.id for g in seen.gateways("vpc")] == ["gy"]
    assert seen.at_host(as_host(claims)).behind
    assert seen.endpoint(as_host(GX), GY) == Endpoint(GY.public or GY.private, 51820)


@pytest.mark.parametrize(
    "wrong",
    [
        member("gy", "ec2", 2, 2, True),  # of another site than that which names it
        member("gy", "vpc", 2, 2),  # without a public address
        Member(
            id="gy", site="vpc", private=A.private, public=P.public, overlay=IPv4Address("10.9.9.9")
        ),
    ],
)
def test_what_is_no_gateway_does_not_count(wrong: Member) -> None:
    seen = passage(wrong, B)
    assert seen.gateways("vpc") == seen.gateways("ec2") == ()
    assert seen.way(wrong, B) in (Way.NONE, Way.INSIDE)


def test_a_gateway_that_says_the_address_of_another_does_not_take_its_office_away() -> None:
    """Both lead to whoever is there, so hosts of both go by that one."""
    liar = member("gz", "vpc", 3, 7, 2)
    behind = [member(f"b{n}", "vpc", n, n) for n in range(10, 40)]
    seen = passage(GX, A, GY, liar, *behind, named={"ec2": ["gx"], "vpc": ["gy", "gz"]})
    assert [one.id for one in seen.gateways("vpc")] == ["gy", "gz"]
    assert sharing(seen.every_gateway()) == {"gy", "gz"}
    assert set(seen.at_host(as_host(GX)).far.values()) == {GY.public}
    assert all(seen.way(A, one) is Way.GATEWAY for one in behind)
    assert seen.way(GX, GY) is Way.DIRECT
    alone = passage(GX, GY, named={"ec2": ["gx"], "vpc": ["gy", "gz"]})
    assert sharing(alone.every_gateway()) == frozenset()


def test_what_is_chosen_is_in_the_maps_and_via_is_the_same_whoever_is_alive() -> None:
    one, other = member("gw-2", "vpc", 2, 1, True), member("gw-1", "vpc", 3, 2, True)
    behind = [member(f"b{n}", "vpc", n, n) for n in range(10, 40)]
    named = {"ec2": ["gx"], "vpc": ["gw-1", "gw-2"]}
    gx = member("gx", "ec2", 2, 3, True)
    used = set()
    every = passage(gx, one, other, *behind, named=named).gateways("vpc")

    def first(host: Member) -> Gateway:
        """Its own, if all are alive."""
        found = chosen(host.overlay, every, {"gw-1", "gw-2"})
        assert found is not None
        return found

    for live in ({"gw-1", "gw-2", "gx"}, {"gw-2"}, {"gw-1"}):
        seen = passage(gx, one, other, *behind, named=named, live=frozenset(live))
        gateways = seen.gateways("vpc")
        assert [gateway.id for gateway in gateways] == ["gw-1", "gw-2"]
        far = seen.at_host(as_host(gx)).far
        assert seen.at_host(as_host(gx)).via == first(gx).public
        for host in behind:
            found = chosen(host.overlay, gateways, live)
            assert found is not None
            maps = seen.at_host(as_host(host))
            assert (maps.near, maps.via) == (found.private, first(host).private)
            assert far[PORTS.port(host.overlay)] == found.public
            used.add((len(live), found.id))
    assert used == {(3, "gw-1"), (3, "gw-2"), (1, "gw-1"), (1, "gw-2")}


def test_what_a_gateway_claims_is_the_via_of_its_own_hosts_and_of_no_others() -> None:
    """Nothing can be sent by an address to which no route leads, whichever gateway it means."""
    liar = replace(member("gw-0", "vpc", 255, 1, True), public=IPv4Address("240.0.0.1"))
    honest = [member(f"gw-{n}", "vpc", n, n, True) for n in (2, 3)]
    theirs = [member(f"a{n}", "ec2", n, n, True) for n in range(10, 40)]
    behind = [member(f"b{n}", "vpc", n, n) for n in range(40, 70)]
    named = {"vpc": ["gw-0", "gw-2", "gw-3"]}
    seen = passage(liar, *honest, *theirs, *behind, named=named)
    gateways, cut = seen.gateways("vpc"), 0
    for host in (*theirs, *behind):
        via = seen.at_host(as_host(host)).via
        own = chosen(host.overlay, gateways, ())
        assert own is not None
        assert (via in (liar.public, liar.private)) == (own.id == liar.id)
        cut += own.id == liar.id
    assert 10 < cut < 30


@pytest.mark.parametrize("last", [9, 13])
def test_who_claims_the_address_of_another_does_not_get_the_port_of_its_packets(last: int) -> None:
    """Whichever of the two comes first by id, and however often it claims it."""
    b = member("m", "vpc", 11, 4)
    liar = member({9: "a", 13: "z"}[last], "vpc", last, last)
    claims = replace(liar, private=b.private)
    held = None
    for said in (liar, claims, liar, claims):
        seen = passage(GX, GY, A, b, said)
        (gateway,) = seen.gateways("vpc")
        held = seen.at_gateway(gateway, held)
        assert held.own[b.private] == PORTS.port(b.overlay)
        assert held.inside[PORTS.port(liar.overlay)] == said.private
    moved = replace(b, private=IPv4Address("10.0.0.12"))
    held = passage(GX, GY, A, moved, claims).at_gateway(gateway, held)
    assert held.own == {
        b.private: PORTS.port(liar.overlay),
        moved.private: PORTS.port(moved.overlay),
    }


@pytest.mark.parametrize("id", ["a", "z"])
def test_who_claims_a_public_address_does_not_get_the_port_of_its_packets(id: str) -> None:
    p, liar = member("p", "vpc", 12, 5, True), member(id, "vpc", 13, 6, True)
    assert p.public is not None
    held = None
    for said in (liar, replace(liar, public=p.public), liar, replace(liar, public=p.public)):
        seen = passage(GX, A, p, said, named={"ec2": ["gx"]})
        (gateway,) = seen.gateways("ec2")
        held = seen.at_gateway(gateway, held)
        assert held.public[p.public] == PORTS.port(p.overlay)
        assert held.direct[PORTS.port(liar.overlay)] == said.public


def test_a_host_that_is_no_member_has_no_maps() -> None:
    stranger = Host(id="x", site="vpc", private=A.private, public=None)
    assert passage().at_host(stranger) == HostMaps()
    assert passage().way(stranger, A) is Way.NONE
    assert passage().endpoint(stranger, A) is None


def test_a_site_without_gateways_has_none_to_send_to() -> None:
    maps = passage(named={}).at_host(as_host(A))
    assert maps == HostMaps(behind=True)


# --- the choice ---

_ids = st.sets(st.text("abcdefgh-0123456789", min_size=1, max_size=8), min_size=1, max_size=6)
_addresses = st.integers(0, SUBNET.num_addresses - 1).map(SUBNET.__getitem__)


def _gateways(ids: set[str]) -> list[Gateway]:
    return [Gateway(id, "vpc", SUBNET[0], SUBNET[n]) for n, id in enumerate(sorted(ids))]


@given(_ids, _addresses, st.data())
def test_only_the_hosts_of_a_dead_gateway_move(
    ids: set[str], overlay: IPv4Address, data: st.DataObject
) -> None:
    every = _gateways(ids)
    dead = data.draw(st.sampled_from(sorted(ids)))
    before, after = chosen(overlay, every, ids), chosen(overlay, every, ids - {dead})
    assert before is not None
    assert after is not None
    if before.id != dead or len(ids) == 1:
        assert after == before
    else:
        assert after.id != dead
    assert chosen(overlay, reversed(every), ids) == before


def test_each_gateway_has_its_share() -> None:
    every = _gateways({"gw-1", "gw-2", "gw-3"})
    share = [0, 0, 0]
    for overlay in SUBNET:
        found = chosen(overlay, every, {"gw-1", "gw-2", "gw-3"})
        assert found is not None
        share[every.index(found)] += 1
    assert all(5200 < one < 5720 for one in share), share


def test_if_none_is_believed_alive_all_are_taken_as_such() -> None:
    every = _gateways({"gw-1", "gw-2"})
    for overlay in list(SUBNET)[:50]:
        assert chosen(overlay, every, ()) == chosen(overlay, every, {"gw-1", "gw-2"})
    assert chosen(SUBNET[1], [], {"gw-1"}) is None


# --- a packet's way by the maps alone ---


@dataclass
class World:
    """Everybody with a belief of its own."""

    members: list[Member]
    sites: Mapping[str, Site]
    named: Mapping[str, list[str]]
    live: Mapping[str, frozenset[str]]

    def __post_init__(self) -> None:
        self._seen = {
            id: Passage(self.members, self.sites, self.named, live, PORTS)
            for id, live in self.live.items()
        }
        self._maps = {one.id: self._seen[one.id].at_host(as_host(one)) for one in self.members}

    def seen_by(self, one: Member) -> Passage:
        return self._seen[one.id]

    def at(self, address: IPv4Address, site: str | None) -> Member:
        """Who has this address: within a site, or on the internet."""
        (found,) = (
            m
            for m in self.members
            if (m.public == address if site is None else (m.site, m.private) == (site, address))
        )
        return found

    def shares(self, one: Member) -> bool:
        """An open host whose public address another one has too: which of the two is there, the
        maps cannot say."""
        others = [m for m in self.members if m.public == one.public and m.id != one.id]
        return self.seen_by(one).is_open(one) and bool(others)

    def arrives(self, sender: Member, to: Member) -> tuple[str, Endpoint]:
        """By the rules of ``policy_gateway``: whom it comes to, and from where, there."""
        end = self.seen_by(sender).endpoint(as_host(sender), to)
        assert end is not None
        own = self._maps[sender.id]
        assert end.address == own.via
        through = own.near if own.behind else own.far[end.port]
        assert through is not None
        relay = self.at(through, sender.site if own.behind else None)
        source, source_port, outside = sender.private, PORTS.tunnel, False
        if not own.behind:
            assert sender.public is not None
            source, outside = sender.public, True
        for _ in range(2):
            seen = self.seen_by(relay)
            (gateway,) = (g for g in seen.gateways(relay.site) if g.id == relay.id)
            maps = seen.at_gateway(gateway)
            if not outside:
                source_port = maps.own[source]
                far, source = self._maps[relay.id].far, gateway.public
                if end.port not in far:
                    found = self.at(maps.direct[end.port], None)
                    return found.id, self._as_told(found, source, source_port)
                relay, outside = self.at(far[end.port], None), True
                continue
            if source_port == PORTS.tunnel:
                source_port = maps.public[source]
            else:
                assert source in self._maps[relay.id].gateways
            found = self.at(maps.inside[end.port], relay.site)
            return found.id, self._as_told(found, gateway.private, source_port)
        raise AssertionError("no more than two gateways")

    def _as_told(self, to: Member, source: IPv4Address, port: int) -> Endpoint:
        maps = self._maps[to.id]
        assert source in maps.gateways
        assert maps.via is not None
        return Endpoint(maps.via, port)


_THERE: Final[tuple[tuple[str, bool | int], ...]] = (("ec2", True), ("ec2", False), ("vpc", True))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Three sites of one private range, all beliefs at random. One site has a gateway and a host
    behind it, and another one an open host; the rest is by chance."""
    overlays = draw(
        st.lists(st.integers(0, SUBNET.num_addresses - 1), min_size=4, max_size=8, unique=True)
    )
    shared = {site: IPv4Address(f"{numbers}.200") for site, numbers in NUMBERS.items()}
    members, counts = [], dict.fromkeys(NUMBERS, 1)
    for number, overlay in enumerate(overlays):
        if number < len(_THERE):
            site, public = _THERE[number]
        else:
            site = draw(st.sampled_from(sorted(NUMBERS)))
            public = draw(st.sampled_from([True, False, 200, False]))
        counts[site] += 1
        members.append(member(f"m{number}", site, counts[site], overlay, public))
    named = {
        site: [
            m.id
            for m in members
            if m.site == site
            and m.public != shared[site]
            and (m is members[0] or draw(st.booleans()))
        ]
        for site in NUMBERS
    }
    ids = [m.id for m in members]
    live = {id: frozenset(draw(st.sets(st.sampled_from(ids)))) for id in ids}
    linked = draw(st.sets(st.just("lab")))
    sites = {
        name: Site(name=name, reached_by=Reach.PRIVATE if name in linked else Reach.PUBLIC)
        for name in NUMBERS
    }
    return World(members, sites, named, live)


@given(worlds())
def test_a_packet_arrives_and_comes_from_where_the_sender_is_configured(world: World) -> None:
    tried = 0
    for one in world.members:
        for other in world.members:
            way = world.seen_by(one).way(one, other)
            assert way is world.seen_by(other).way(other, one)
            if world.shares(one) or world.shares(other):
                continue
            if one.id != other.id and way is Way.GATEWAY:
                tried += 1
                configured = world.seen_by(other).endpoint(as_host(other), one)
                assert world.arrives(one, other) == (other.id, configured)
            elif way is not Way.INSIDE:
                found = world.seen_by(one).endpoint(as_host(one), other)
                assert (found is None) == (way is Way.NONE)
    assert tried >= 2


@given(worlds())
def test_what_is_believed_changes_two_maps_and_nothing_else(world: World) -> None:
    """A gateway that dies changes no endpoint, no source that is let in, and no map of another."""
    everybody = frozenset(m.id for m in world.members)
    for one in world.members:
        now = world.seen_by(one)
        then = Passage(world.members, world.sites, world.named, everybody, PORTS)
        a, b = now.at_host(as_host(one)), then.at_host(as_host(one))
        assert (a.via, a.behind, a.gateways, a.far.keys()) == (
            b.via,
            b.behind,
            b.gateways,
            b.far.keys(),
        )
        assert (a.near is None) == (b.near is None)
        for gateway in now.gateways(one.site):
            assert now.at_gateway(gateway) == then.at_gateway(gateway)
        for other in world.members:
            assert now.endpoint(as_host(one), other) == then.endpoint(as_host(one), other)
