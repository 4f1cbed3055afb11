"""One site that makes many members and lets them vanish does not hold back the others."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from neti.fleet.admission import Admission
from neti.fleet.fleet import Fleet
from neti.fleet.guard import Guard
from neti.model import Member, Site, entry

LINGER, HOLD, WINDOW = 600.0, 3_600.0, 600.0
OVERLAY = IPv4Network("192.168.0.0/16")


def fleet_of(**sites: int) -> tuple[Fleet, dict[str, list[str]]]:
    """So many hosts in each site; their entries."""
    fleet = Fleet(
        Admission(
            sites={s: Site(name=s, private=(IPv4Network("10.0.0.0/8"),)) for s in sites},
            overlay_subnet=OVERLAY,
        ),
        linger_seconds=LINGER,
        guard=Guard(),
        hold_seconds=HOLD,
    )
    names: dict[str, list[str]] = {}
    number = 0
    for site, count in sites.items():
        for _ in range(count):
            number += 1
            overlay = IPv4Address(int(OVERLAY.network_address) + number)
            private = IPv4Address((10 << 24) + number)
            member = Member(
                id=f"{site}-{number}", site=site, private=private, public=None, overlay=overlay
            )
            names.setdefault(site, []).append(entry.encode(member))
            fleet.appeared(names[site][-1])
            fleet.lease_read(overlay, member.id)
    return fleet, names


def vanish(fleet: Fleet, names: list[str], at: float) -> None:
    for name in names:
        fleet.vanished(name, now=at)


def goodbye(fleet: Fleet, name: str, at: float) -> str:
    member = entry.parse(name)
    assert isinstance(member, Member)
    fleet.appeared(entry.encode_departure(member), now=at)
    fleet.vanished(name, now=at)
    return member.id


def run(fleet: Fleet, until: float) -> None:
    while (due := fleet.next_tick()) is not None and due <= until:
        fleet.tick(now=due)


@pytest.mark.parametrize("fakes", ["ec2", "vpc"], ids=["of the same site", "of the other site"])
@pytest.mark.parametrize("after", [1.0, 300.0, 700.0, 5_000.0, 90_000.0])
def test_a_goodbye_counts_within_the_hour_whatever_else_is_held(fakes: str, after: float) -> None:
    fleet, names = fleet_of(**({"ec2": 90} if fakes == "ec2" else {"ec2": 40, "vpc": 50}))
    vanish(fleet, names[fakes][-50:], 1_000.0)
    run(fleet, 1_000.0 + after)
    host_id = goodbye(fleet, names["ec2"][0], 1_000.0 + after)
    run(fleet, 1_000.0 + after + HOLD + 1)
    assert host_id not in fleet.members
    held = [i for i in fleet.holds if fleet.holds[i].said]
    assert held == []
    assert len(fleet.members) == 89


@pytest.mark.parametrize("after", [0.0, 300.0])
def test_a_loss_in_another_site_is_not_held_with_them(after: float) -> None:
    fleet, names = fleet_of(ec2=40, vpc=50)
    vanish(fleet, names["vpc"], 1_000.0)
    run(fleet, 1_000.0 + after)
    vanish(fleet, names["ec2"][:3], 1_000.0 + after)
    run(fleet, 1_000.0 + after + LINGER + 1)
    assert len(fleet.members) == 87
    assert all(host_id.startswith("vpc") for host_id in fleet.holds)


def test_a_registry_that_loses_everybody_loses_nobody() -> None:
    fleet, names = fleet_of(ec2=40, vpc=50)
    vanish(fleet, [*names["ec2"], *names["vpc"]], 1_000.0)
    run(fleet, 1_000.0 + 10 * 86_400)
    assert len(fleet.members) == 90


def test_no_more_than_maxchange_are_removed_in_ten_minutes_from_all_sites_together() -> None:
    fleet, names = fleet_of(ec2=60, vpc=60)
    vanish(fleet, [*names["ec2"][:15], *names["vpc"][:15]], 1_000.0)
    run(fleet, 1_000.0 + LINGER + 1)
    assert len(fleet.members) >= 120 - 20
    assert len(fleet.holds) == 15


def test_a_new_site_is_guarded_as_an_old_one() -> None:
    """Thirty hosts of a site that came today, in the middle of the cut-over."""
    fleet, names = fleet_of(ec2=100, vpc=30)
    vanish(fleet, names["vpc"], 1_000.0)
    for number in range(15):
        goodbye(fleet, names["ec2"][number], 1_000.0 + number)
    run(fleet, 1_000.0 + LINGER + 1)
    assert sum(host_id.startswith("vpc") for host_id in fleet.members) == 30


def test_slices_of_one_site_add_up() -> None:
    fleet, names = fleet_of(ec2=100, vpc=10)
    for slice_ in range(4):
        vanish(fleet, names["ec2"][slice_ * 10 : slice_ * 10 + 10], 1_000.0 + 60 * slice_)
    run(fleet, 1_000.0 + LINGER + WINDOW / 2)
    assert len(fleet.members) == 110


def test_each_batch_ends_by_itself_or_does_not() -> None:
    fleet, names = fleet_of(ec2=100)
    vanish(fleet, names["ec2"][:40], 1_000.0)
    run(fleet, 1_000.0 + LINGER + 1)
    assert len(fleet.holds) == 40
    later = 1_000.0 + LINGER + WINDOW + 100
    vanish(fleet, names["ec2"][40:62], later)
    run(fleet, later + LINGER + 1)
    assert len(fleet.holds) == 62
    run(fleet, later + LINGER + HOLD + 1)
    assert len(fleet.holds) == 40, "twenty-two are few enough, forty are not"


def test_who_knows_all_leases_asks_for_none_and_judges_alike() -> None:
    """An operator's command reads every lease before the list, and decides each host once."""
    _, names = fleet_of(here=4)
    members = [member for name in names["here"] if isinstance(member := entry.parse(name), Member)]
    owners = {one.overlay: one.id for one in members[:2]} | {members[2].overlay: "somebody-else"}
    told, asked = _unread(), _unread()
    told.leases_are(owners)
    for fleet in (told, asked):
        fleet.snapshot(names["here"], now=0.0)
    assert told.questions().leases == {members[2].overlay, members[3].overlay}
    for overlay in {one.overlay for one in members}:
        asked.lease_read(overlay, owners.get(overlay))
    for overlay in (members[2].overlay, members[3].overlay):
        told.lease_read(overlay, owners.get(overlay))
    assert told.members.keys() == asked.members.keys() == {one.id for one in members[:2]}
    assert told.skipped(9) == asked.skipped(9)


def _unread() -> Fleet:
    site = Site(name="here", private=(IPv4Network("10.0.0.0/8"),))
    return Fleet(Admission(sites={"here": site}, overlay_subnet=OVERLAY), linger_seconds=LINGER)
