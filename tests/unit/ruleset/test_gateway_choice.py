"""Which gateways are chosen from, whatever is believed of them."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from neti.model import Encrypt, Host, Member, Reach, Site
from neti.model.settings import Settings
from neti.ruleset.gateway_choice import Belief, Choice, choice
from neti.ruleset.gateway_part import GatewayPart

IDS: Final = frozenset({"gw-1", "gw-2", "gw-3"})
SOME: Final = st.frozensets(st.sampled_from(sorted(IDS)))


def ids(*numbers: int) -> frozenset[str]:
    return frozenset(f"gw-{one}" for one in numbers)


def live(
    there: frozenset[str] = IDS,
    lost: frozenset[str] = ids(),
    drained: frozenset[str] = ids(),
    dead: frozenset[str] = ids(),
    answering: frozenset[str] = ids(),
    former: frozenset[str] = ids(),
) -> Choice:
    return choice([there], lost, drained, Belief(dead, answering - dead), Choice(former))


def test_the_order_of_those_that_work() -> None:
    assert live().live == IDS
    assert live(lost=ids(1), answering=IDS).live == ids(2, 3)
    assert live(lost=ids(1), answering=IDS, dead=ids(2), drained=ids(3)).live == ids(1)
    assert live(lost=ids(1), dead=ids(2), drained=ids(3)).live == ids(3)
    assert live(lost=ids(1, 3), dead=ids(2), drained=ids(3), answering=ids(3)).live == ids(3)


def test_where_none_works_the_former_ones_stay() -> None:
    gone: Callable[..., Choice] = lambda **more: live(dead=IDS, **more)  # noqa: E731
    assert gone(former=ids(1, 2)).live == ids(1, 2)
    assert gone(former=ids(1), drained=ids(1)).live == ids(1)
    assert gone(former=ids(1, 2), drained=ids(1)).live == ids(2)
    assert gone(former=ids(1), there=ids(2, 3)).live == ids(2, 3)
    assert gone(drained=ids(1), lost=ids(2)).live == ids(3)
    assert gone(drained=ids(1), lost=ids(2, 3)).live == ids(2, 3)
    assert gone(drained=IDS).live == IDS
    assert not gone(former=ids(1)).works


@given(SOME, SOME, SOME, SOME, SOME, SOME)
def test_a_site_with_gateways_has_some_to_choose_from_and_keeps_them(
    there: frozenset[str],
    lost: frozenset[str],
    drained: frozenset[str],
    dead: frozenset[str],
    answering: frozenset[str],
    former: frozenset[str],
) -> None:
    found = live(there, lost, drained, dead, answering, former)
    assert found.works <= found.live <= there
    assert bool(found.live) == bool(there)
    assert found.works in (found.live, ids())
    assert not found.works & dead
    if not found.works and former & there:
        assert found.live <= former
    assert live(there, lost, drained, dead, answering, found.live) == found


def test_one_that_cannot_be_sent_to_does_not_count_as_one_that_works() -> None:
    sites = {
        name: Site(
            name=name,
            private=(IPv4Network("10.0.0.0/16"),),
            reached_by=Reach.GATEWAY,
            encrypt=Encrypt.PREFER,
            gateways=("gw-1", "gw-2", "gw-3") if name == "ec2" else (),
        )
        for name in ("ec2", "vpc")
    }
    settings = Settings(path=Path("neti.yml"), sites=sites, sites_configured=True)
    overlay = settings.overlay_subnet
    gateways = [
        Member(
            id=f"gw-{n}",
            site="ec2",
            private=IPv4Address("10.0.0.0") + n,
            public=IPv4Address("198.51.100.0") + n,
            overlay=overlay[n],
        )
        for n in (1, 2, 3)
    ]
    behind = [
        replace(gateways[0], id=f"h-{n}", private=IPv4Address("10.0.0.0") + n, overlay=overlay[n])
        for n in range(11, 61)
    ]
    behind = [replace(one, public=None) for one in behind]
    private, public = IPv4Address("10.0.0.9"), IPv4Address("203.0.113.9")
    own = Host(id="open", site="vpc", private=private, public=public)
    for third in (
        replace(gateways[2], public=None),
        replace(gateways[2], site="vpc"),
        replace(gateways[2], overlay=IPv4Address("172.16.0.1")),
    ):
        members = {one.id: one for one in (*gateways[:2], third, *behind)}
        part = GatewayPart(settings, own)
        part.drain(ids(1))
        part.believe(Belief(ids(2), ids(1)))
        part.renew(members, (), overlay[9])
        assert {part.reached_at(one) for one in behind} == {gateways[0].public}
        assert (part.is_used("gw-1"), part.is_used("gw-3")) == (True, False)
        assert not part.without(members)
        assert part.useless(members).keys() == ids(2, 3)
