"""What ``neti plan`` says of a road that no configuration asks for any more."""

from ipaddress import IPv4Network

import pytest

from neti.dataplane.wireguard import road
from neti.dataplane.wireguard.road import Link, Road, our_rule
from neti.oneshot.encrypting import Encrypting
from neti.ruleset.desired import Membership

NETI0 = Link(index=7, name="neti0", kind="wireguard", mtu=1420, up=True, src_valid_mark=True)
NOBODYS = Link(index=7, name="neti0", kind="dummy", mtu=1500, up=True, src_valid_mark=False)


@pytest.mark.parametrize(
    ("held", "says"),
    [
        (Road(NETI0, (our_rule(1),)), ("remove neti0, its rule and its route",)),
        (Road(None, (our_rule(1),)), ("remove the rule and the route",)),
        (Road(None, (), ((IPv4Network("192.168.0.0/18"), 7),)), ("remove the rule and",)),
        (Road(None), ()),
        (Road(NOBODYS), ()),
    ],
)
def test_a_device_that_goes_is_named(
    monkeypatch: pytest.MonkeyPatch, held: Road, says: tuple[str, ...]
) -> None:
    """Connections through it end."""
    monkeypatch.setattr(road, "read", lambda: held)
    members = Membership.__new__(Membership)  # nobody is asked about
    found, notes = Encrypting(None, None, None).differences(members, ())
    assert len(found) == len(says)
    assert all(said.startswith(start) for said, start in zip(found, says, strict=True))
    assert notes == ()
