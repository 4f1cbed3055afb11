"""Names of nodes that stand for an overlay address: one spelling for each, and the rest is junk."""

from ipaddress import IPv4Address

import pytest

from neti.registry.zookeeper.leases import overlay_named


@pytest.mark.parametrize("name", ["192.168.0.7", "0.0.0.0", "255.255.255.255"])
def test_the_usual_spelling_is_the_address(name: str) -> None:
    assert overlay_named(name) == IPv4Address(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "a", "1.2.3", "1.2.3.4.5", "256.1.1.1", "192.168.0.07", "1.2.3.4 ", " 1.2.3.4"),
        *("1.2.3.4\0", "\ud800", "\N{ARABIC-INDIC DIGIT THREE}.1.1.1", "::1", "1" * 5000),
    ],
)
def test_any_other_is_junk(name: str) -> None:
    assert overlay_named(name) is None
