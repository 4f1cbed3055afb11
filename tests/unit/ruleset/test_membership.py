"""No change of a member is lost on its way to the log, the disk and the hosts file."""

from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import pytest

from neti.fleet.members import Change
from neti.model import Encrypt, Host, Member, Road, Site, entry
from neti.model.groups import GroupLine, Groups, MemberPort
from neti.model.settings import Settings
from neti.ruleset.desired import Membership

HOST: Final = Host(id="self", site="ec2", private=IPv4Address("10.0.0.1"), public=None)
OTHER: Final = Member(
    overlay=IPv4Address("192.168.0.9"),
    site="vpc",
    private=IPv4Address("172.31.0.9"),
    public=IPv4Address("203.0.113.9"),
    id="other",
)
PORTS: Final = (MemberPort(("db",), "tcp", 5432, 5432),)
# Each needs the elements up to date, and may come between a change and the one who asks for it.
BETWEEN: Final[dict[str, Callable[[Membership], None]]] = {
    "require": lambda members: members.require(True),
    "group_members": lambda members: members.group_members(
        Groups({"db": (GroupLine("o-*"),)}, edition=1), now=0.0
    ),
    "admit_by": lambda members: members.admit_by(PORTS),
    "goes_by": lambda members: members.goes_by("a third", Road.PREFERRED),
}


def membership() -> Membership:
    sites = {"ec2": Site(name="ec2", encrypt=Encrypt.PREFER), "vpc": Site(name="vpc")}
    settings = Settings(path=Path("neti.yml"), sites=sites, member_ports=PORTS)
    return Membership.empty(settings, HOST, frozenset())


def joins(members: Membership) -> None:
    members.fleet.appeared(entry.encode(OTHER))
    members.fleet.lease_read(OTHER.overlay, OTHER.id)


def leaves(members: Membership) -> None:
    members.fleet.appeared(entry.encode_departure(OTHER))
    members.fleet.vanished(entry.encode(OTHER), now=0.0)


@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
def test_who_asks_later_hears_of_each_change(between: Callable[[Membership], None]) -> None:
    members = membership()
    joins(members)
    between(members)
    assert members.take_changes() == [Change(OTHER.id, None, OTHER)]
    assert members.take_touched() == {OTHER.id}
    leaves(members)
    between(members)
    assert members.take_changes() == [Change(OTHER.id, OTHER, None)]
    assert members.take_changes() == []


def test_who_came_and_went_in_between_was_never_here() -> None:
    members = membership()
    joins(members)
    members.admit_by(PORTS)
    leaves(members)
    assert members.take_changes() == []
