"""Which connections the reconciler looks at when a member's road changes, and which it ends."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import pytest

from neti.dataplane.conntrack import GoesOn
from neti.dataplane.memory import MemoryDataplane
from neti.dataplane.reconciler import Reconciler
from neti.model import Encrypt, Host, Member, Road, Site
from neti.model.settings import Settings
from neti.ruleset.delta import Elements
from neti.ruleset.policy import structure
from neti.ruleset.reach import elements_of
from neti.ruleset.surroundings import Surroundings

HOST: Final = Host(id="me", site="ec2", private=IPv4Address("10.0.0.1"), public=None)
OVERLAY, REAL = IPv4Address("192.168.0.5"), IPv4Address("203.0.113.5")
MEMBER: Final = Member(
    id="db-1", site="vpc", private=IPv4Address("10.0.0.5"), public=REAL, overlay=OVERLAY
)
SITES: Final = {"ec2": Site(name="ec2"), "vpc": Site(name="vpc", encrypt=Encrypt.PREFER)}
STRUCTURE: Final = structure(
    Settings(path=Path("neti.yml"), sites=SITES),
    Surroundings(uplinks=("eth0",), ssh_untracked=True, site="ec2"),
)
# In the clear, through the tunnel, and through it without an answer.
CLEAR, TUNNELED, UNANSWERED = (REAL, True), (OVERLAY, True), (OVERLAY, False)


@dataclass
class Tracked:
    flows: list[tuple[IPv4Address, bool]] = field(
        default_factory=lambda: [CLEAR, TUNNELED, UNANSWERED]
    )
    looks: int = 0

    def end_connections_to(
        self, destinations: list[IPv4Address], goes_on: GoesOn | None = None
    ) -> int:
        self.looks += 1
        assert destinations == [OVERLAY]
        kept = [one for one in self.flows if goes_on is not None and goes_on(OVERLAY, *one)]
        ended, self.flows = len(self.flows) - len(kept), kept
        return ended


class OneMember:
    def __init__(self) -> None:
        self.tracked, self.elements = Tracked(), Elements(revoke_seconds=60)
        self.reconciler = Reconciler(MemoryDataplane(), self.tracked, None)
        self.road: Road | None = None
        self.reconciler.resync(STRUCTURE, self.elements)

    def goes_by(self, road: Road | None) -> None:
        for at, act in ((self.road, self.elements.unwant), (road, self.elements.want)):
            found = elements_of(MEMBER, host=HOST, sites=SITES, road=at) if at else ()
            for one in found:
                act(one.where, one.key, one.value)
        self.road = road
        self.reconciler.commit(self.elements)

    def later(self) -> list[tuple[IPv4Address, bool]]:
        if self.reconciler.connections_to_end:
            self.reconciler.end_connections(self.elements)
        return self.tracked.flows


PLAIN, TRYING, PREFERRED, REQUIRED, NONE = Road


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        (PLAIN, TRYING, None),
        (TRYING, PREFERRED, None),
        (PLAIN, PREFERRED, None),
        (PREFERRED, TRYING, [CLEAR, TUNNELED]),
        (TRYING, PLAIN, [CLEAR]),
        (PREFERRED, PLAIN, [CLEAR]),
        (PLAIN, REQUIRED, [TUNNELED]),
        (PREFERRED, REQUIRED, [TUNNELED]),
        (REQUIRED, PREFERRED, None),
        (REQUIRED, NONE, []),
        (PREFERRED, None, []),
        (REQUIRED, None, []),
        (None, REQUIRED, None),
    ],
)
def test_a_connection_ends_only_when_its_road_is_not_allowed_any_more(
    before: Road | None, after: Road | None, left: Iterable[object] | None
) -> None:
    """``left`` None: nobody even looks, which would cost a walk of the whole table."""
    one = OneMember()
    one.goes_by(before)
    one.goes_by(after)
    if left is None:
        assert one.later() == [CLEAR, TUNNELED, UNANSWERED]
        assert one.tracked.looks == 0
    else:
        assert one.later() == left


@pytest.mark.parametrize("before", [PLAIN, PREFERRED])
def test_what_is_in_the_clear_ends_at_once_where_that_is_not_allowed(before: Road) -> None:
    """Not together with others', a moment later."""
    one = OneMember()
    one.goes_by(before)
    one.goes_by(REQUIRED)
    assert one.tracked.flows == [TUNNELED]


@pytest.mark.parametrize("road", [TRYING, PREFERRED, REQUIRED])
def test_a_member_that_comes_back_by_another_road_finds_no_older_connections(road: Road) -> None:
    """They would wait at its former place for as long as they send."""
    one = OneMember()
    one.goes_by(road)
    one.goes_by(None)
    one.goes_by(PLAIN)
    assert one.tracked.flows == [CLEAR]
