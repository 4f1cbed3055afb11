"""Whom anybody could be, if admission were off."""

from ipaddress import IPv4Network

import pytest

from neti.model.groups import GroupLine, Groups
from neti.oneshot.admission import anybodys
from neti.registry.groups import GroupsUnreadable, encode
from neti.registry.memory import MemoryRegistry, MemoryServer


@pytest.fixture(name="registry")
def _registry() -> MemoryRegistry:
    server = MemoryServer(rights=True)
    server.admit("a", "host-a", IPv4Network("192.168.0.0/24"))
    return MemoryRegistry(server, owner="operator-chief")


def test_patterns_and_ids_without_an_owner_are_anybodys(registry: MemoryRegistry) -> None:
    assert anybodys(registry) == {}
    db = (GroupLine("a"), GroupLine("later-1"), GroupLine("later-1", "vpc"), GroupLine("x-*"))
    registry.change_setting("groups", encode(Groups({"db": db, "web": (GroupLine("a"),)}, 1)))
    assert anybodys(registry) == {"db": ["later-1", "x-*"]}


def test_groups_that_cannot_be_read_are_not_none(registry: MemoryRegistry) -> None:
    """Agents may follow the last that could be."""
    registry.change_setting("groups", b"{")
    with pytest.raises(GroupsUnreadable):
        anybodys(registry)
