"""What a host without a public address says of who reaches it."""

from collections.abc import Mapping

import pytest

from neti.agent.status import _without_public
from neti.model import Reach, Site

PUBLIC, LINK = Site(name="any", reached_by=Reach.PUBLIC), Site(name="any", reached_by=Reach.PRIVATE)
INSIDE = ["this host has no public address: it is reached inside its site only"]


@pytest.mark.parametrize(
    ("sites", "said"),
    [
        ({"own": PUBLIC}, INSIDE),
        ({"own": PUBLIC, "a": PUBLIC}, INSIDE),
        ({"own": LINK, "a": PUBLIC, "b": LINK}, []),
        ({"own": LINK, "a": LINK}, []),
        ({"own": PUBLIC, "a": LINK}, INSIDE),
    ],
)
def test_sites_with_a_link_reach_it(sites: Mapping[str, Site], said: list[str]) -> None:
    assert list(_without_public(sites, "own")) == said
