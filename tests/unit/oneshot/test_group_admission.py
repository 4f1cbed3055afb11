"""What an admission does to groups with subjects."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from neti.config import load
from neti.errors import NetiError
from neti.model import Member, entry
from neti.model.groups import GroupLine, Groups
from neti.model.settings import Settings
from neti.oneshot.group_admission import put_in, take_out
from neti.registry.groups import decode, encode
from neti.registry.memory import MemoryRegistry, MemoryServer

SUBNET = IPv4Network("192.168.0.0/24")
DB = GroupLine("CN=db-*")


def by(host_id: str) -> GroupLine:
    return GroupLine(host_id, by=DB.pattern)


@pytest.fixture(name="settings")
def _settings(tmp_path: Path) -> Settings:
    path = tmp_path / "neti.yml"
    path.write_text(
        f"registry: embedded:{tmp_path}/registry.db\ntable_files_path: {tmp_path}/state\n"
        "site: dc\nidentity: {id: a, private: 10.0.0.5}\nsites: {dc: {private: [10.0.0.0/16]}}\n"
    )
    return load(path)


@pytest.fixture(name="registry")
def _registry() -> MemoryRegistry:
    server = MemoryServer(rights=True, admission=True)
    for host_id in ("a", "b", "c"):
        server.admit(host_id, f"CN=db-{host_id}", SUBNET)
    return MemoryRegistry(server, owner="operator")


def define(registry: MemoryRegistry, *lines: GroupLine) -> None:
    registry.change_setting("groups", encode(Groups({"db": lines}, 7, judged=(7,))))


def held(registry: MemoryRegistry) -> Groups:
    return decode(registry.setting("groups"))


def test_who_is_admitted_is_in_the_groups_that_its_subject_fits(registry: MemoryRegistry) -> None:
    define(registry, DB, by("a"))
    owners = {"b": "CN=db-b", "c": "CN=web-c"}
    assert put_in(registry, owners, 100.0) == {"db": ("b",)}
    assert held(registry).lines["db"] == (DB, by("a"), by("b"))
    assert held(registry).judged == (7, 100)
    # Once more is no other edition.
    assert put_in(registry, owners, 200.0) == {}
    assert held(registry).edition == 100


def test_ids_without_a_lease_go_when_others_come_and_not_before(registry: MemoryRegistry) -> None:
    define(registry, DB, by("a"), by("gone"))
    assert put_in(registry, {"a": "CN=db-a"}, 100.0) == {}
    assert held(registry).edition == 7
    assert put_in(registry, {"b": "CN=db-b"}, 100.0) == {"db": ("b",)}
    assert held(registry).lines["db"] == (DB, by("a"), by("b"))


def test_who_is_admitted_anew_is_in_no_group_by_the_subject_that_it_had(
    registry: MemoryRegistry,
) -> None:
    """Its lease was released and its record removed, which leaves its lines in the groups: nobody
    knows any more that it was another certificate's."""
    define(registry, DB, by("a"), by("b"), GroupLine("b", "dc"))
    assert put_in(registry, {"b": "CN=web-b"}, 100.0) == {}
    assert held(registry).lines["db"] == (DB, GroupLine("b", "dc"), by("a"))


def test_without_subjects_nothing_is_written(registry: MemoryRegistry) -> None:
    assert put_in(registry, {"a": "CN=db-a"}, 100.0) == {}
    assert registry.setting("groups") is None
    define(registry, GroupLine("a"))
    assert put_in(registry, {"b": "CN=db-b"}, 100.0) == {}
    assert held(registry).edition == 7


def test_who_gets_another_certificate_leaves_first(
    registry: MemoryRegistry, settings: Settings
) -> None:
    define(registry, DB, GroupLine("b"), by("a"), by("b"), by("c"))
    owners = {"a": "CN=web-a", "b": "CN=web-b", "c": "CN=db-other"}
    would = take_out(settings, registry, owners, 100.0, dry_run=True)
    assert would == {"db": ("a",)}
    assert held(registry).edition == 7
    assert take_out(settings, registry, owners, 100.0) == {"db": ("a",)}
    assert held(registry).lines["db"] == (DB, GroupLine("b"), by("c"))


def test_more_than_half_of_a_group_does_not_go_by_the_way(settings: Settings) -> None:
    """Agents would not follow it, and the id would be another certificate's all the same."""
    server = MemoryServer()
    ids = [f"h-{number}" for number in range(6)]
    for number, host_id in enumerate(ids, 1):
        made = MemoryRegistry(server)
        member = Member(
            id=host_id,
            site="dc",
            private=IPv4Address(f"10.0.0.{number}"),
            public=None,
            overlay=made.acquire(host_id, SUBNET),
        )
        made.register(
            host_id=host_id,
            name=entry.encode(member),
            data=b"",
            detail=b"{}",
            overlay=member.overlay,
        )
    registry = MemoryRegistry(server)
    define(registry, DB, *map(by, ids))
    with pytest.raises(NetiError, match="takes 4 of the 6 members of group db out"):
        take_out(settings, registry, dict.fromkeys(ids[:4], "CN=web"), 100.0)
    assert held(registry).edition == 7
    assert take_out(settings, registry, dict.fromkeys(ids[:3], "CN=web"), 100.0) == {
        "db": ("h-0", "h-1", "h-2")
    }


def test_while_groups_cannot_be_read_nobody_gets_another_certificate(
    registry: MemoryRegistry, settings: Settings
) -> None:
    """Agents may follow the last that could be read, and the id is in them."""
    registry.change_setting("groups", b"{}")
    with pytest.raises(NetiError, match="has format"):
        take_out(settings, registry, {"a": "CN=web-a"}, 100.0)
