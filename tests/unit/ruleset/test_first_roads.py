"""Which peers and roads a host begins with, by its members' keys alone."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from neti.fleet.remembered import Remembered
from neti.model import Encrypt, Host, Member, Road, Site
from neti.model.entry import encode
from neti.model.settings import Settings
from neti.model.wireguard_key import PublicKey
from neti.ruleset.desired import Membership
from neti.ruleset.first_roads import FirstRoads, first_roads
from neti.ruleset.peers import SESSION_SECONDS, Device, Endpoint, Peer, PeerState
from neti.ruleset.roads import KEEPALIVE

HOST = Host(id="me", site="ec2", private=IPv4Address("10.0.0.1"), public=None)
NOW = 1_800_000_000.0
OWN = PublicKey(bytes([99] * 32))


def key(number: int) -> PublicKey:
    return PublicKey(bytes([number] * 32))


def remembered(
    number: int, site: str = "vpc", *, public: bool = True, by: PublicKey | None = None
) -> Remembered:
    member = Member(
        id=f"h{number}",
        site=site,
        private=IPv4Address("10.0.0.0") + number,
        public=IPv4Address("203.0.113.0") + number if public else None,
        overlay=IPv4Address("192.168.0.0") + number,
    )
    return Remembered(encode(member), leased=True, key=by or key(number))


def members(
    encrypt: Encrypt, *held: Remembered, ids: tuple[int, ...] = (1,), requires: bool = False
) -> Membership:
    sites = {"ec2": Site(name="ec2", encrypt=encrypt), "vpc": Site(name="vpc")}
    made = Membership.empty(Settings(path=Path("neti.yml"), sites=sites), HOST, frozenset())
    made.remember({f"h{n}": one for n, one in zip(ids, held, strict=True)})
    made.require(requires)
    return made


def peer(number: int, keepalive: int = 0) -> Peer:
    there = Endpoint(IPv4Address("203.0.113.0") + number, 51820)
    allowed = frozenset({IPv4Network(IPv4Address("192.168.0.0") + number)})
    return Peer(key(number), allowed, there, keepalive)


def device(handshake: float | None) -> Device:
    return Device(OWN, 51820, {key(1): PeerState(peer(1), handshake)})


def test_a_member_with_a_key_is_tried_and_shakes_hands() -> None:
    found = first_roads(members(Encrypt.PREFER, remembered(1)), OWN)
    assert found == FirstRoads({"h1": Road.TRYING}, {key(1): peer(1, KEEPALIVE)})


def test_require_acts_as_prefer_until_it_is_confirmed() -> None:
    before = members(Encrypt.REQUIRE, remembered(1))
    assert first_roads(before, OWN).roads == {"h1": Road.TRYING}
    after = members(Encrypt.REQUIRE, remembered(1), requires=True)
    assert first_roads(after, OWN).roads == {"h1": Road.REQUIRED}


@pytest.mark.parametrize("encrypt", list(Encrypt))
def test_the_own_site_is_never_encrypted(encrypt: Encrypt) -> None:
    own = members(encrypt, remembered(1, "ec2"), requires=True)
    assert first_roads(own, OWN) == FirstRoads()


def test_where_nothing_is_encrypted_there_are_no_peers() -> None:
    assert first_roads(members(Encrypt.OFF, remembered(1)), OWN) == FirstRoads()


def test_a_road_that_works_goes_on() -> None:
    """By a session that is there; or by what the table says, where nothing was sent for a while."""
    known = members(Encrypt.PREFER, remembered(1))

    def road(handshake: float | None, *tunneled: str) -> Road:
        held = device(handshake)
        return first_roads(known, OWN, device=held, tunneled=tunneled, now=NOW).roads["h1"]

    assert road(NOW - SESSION_SECONDS + 1) is Road.PREFERRED
    assert road(NOW - 9000) is Road.TRYING
    assert road(NOW - 9000, "192.168.0.1") is Road.PREFERRED
    assert road(None, "192.168.0.1") is Road.TRYING


def test_one_key_is_not_two_hosts() -> None:
    """It is not known whose it is, so neither has it. This host's own key is nobody else's."""
    held = remembered(1), remembered(2, by=key(1)), remembered(3, by=OWN), remembered(4)
    found = first_roads(members(Encrypt.PREFER, *held, ids=(1, 2, 3, 4)), OWN)
    assert found.roads == {"h4": Road.TRYING}
    assert set(found.peers) == {key(4)}


def test_a_member_that_cannot_be_reached_may_call() -> None:
    known = members(Encrypt.PREFER, remembered(1, public=False))
    assert first_roads(known, OWN).peers[key(1)].endpoint is None
