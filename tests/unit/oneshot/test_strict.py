"""Before strict, or admission, is turned on: who would vanish by it, or be kept out."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import MappingProxyType

import pytest

from neti.model import Member, Site, entry
from neti.model.settings import Settings
from neti.oneshot import strict
from neti.oneshot.admission import without_record
from neti.registry import detail
from neti.registry.memory import MemoryRegistry, MemoryServer
from neti.registry.strict import Strict

OVERLAY = IPv4Network("192.168.0.0/18")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    site = Site(name="ec2", private=(IPv4Network("10.0.0.0/16"),))
    return Settings(
        path=tmp_path / "neti.yml",
        sites=MappingProxyType({"ec2": site}),
        overlay_subnet=OVERLAY,
        table_files_path=tmp_path,
    )


def register(
    server: MemoryServer,
    host_id: str,
    number: int,
    *,
    private: str = "10.0.0.1",
    told: bytes = b"{}",
) -> str:
    registry = MemoryRegistry(server)
    overlay = registry.acquire(host_id, OVERLAY)
    one = Member(
        id=host_id,
        site="ec2",
        private=IPv4Address(private),
        public=None,
        overlay=overlay,
        generation=number,
    )
    name = entry.encode(one)
    registry.register(host_id=host_id, name=name, data=b"", detail=told, overlay=overlay)
    return name


def forget_record(server: MemoryServer, host_id: str) -> None:
    """As an agent of a version before records leaves it."""
    del server._records[host_id]


def test_a_fleet_whose_records_name_its_entries_can_be_strict(settings: Settings) -> None:
    server = MemoryServer()
    register(server, "a", 0)
    standing = strict.look(settings, MemoryRegistry(server))
    assert (standing.members, standing.unvouched, standing.on) == (1, (), False)


def test_who_requires_encryption_relies_on_it(settings: Settings) -> None:
    """On trial, too; not who would only rather have it."""
    server = MemoryServer()
    registry = MemoryRegistry(server)
    relying = ("partly", "require", "require-unable", "trial")
    words = (*relying, "prefer", "unable", "off", "", "later")
    for number, word in enumerate(words, 1):
        host_id = word or "silent"
        told = detail.encode(detail.Document(encryption=word))
        register(server, host_id, 0, private=f"10.0.0.{number}", told=told)
    assert strict.look(settings, registry).requiring == relying


def test_a_host_without_a_record_is_in_the_way(settings: Settings) -> None:
    server = MemoryServer()
    name, _ = register(server, "a", 0), register(server, "b", 0, private="10.0.0.2")
    forget_record(server, "a")
    (found,) = strict.look(settings, MemoryRegistry(server)).unvouched
    assert (found.id, found.name, found.recorded) == ("a", name, False)


def test_a_forged_entry_of_a_higher_generation_is_in_the_way(settings: Settings) -> None:
    server = MemoryServer()
    name = register(server, "a", 0)
    forged = name.replace(".0.ec2", ".z.ec2")
    server._add(forged, 99, b"", 99)
    (found,) = strict.look(settings, MemoryRegistry(server)).unvouched
    assert (found.name, found.recorded) == (forged, True)


def test_a_former_entry_that_still_stands_is_not(settings: Settings) -> None:
    server = MemoryServer()
    name = register(server, "a", 5)
    server._add(name.replace(".5.ec2", ".4.ec2"), 99, b"", 99)
    assert strict.look(settings, MemoryRegistry(server)).unvouched == ()


def test_what_no_agent_believes_is_not(settings: Settings) -> None:
    """Junk, an address outside the site, and another host's overlay address."""
    server = MemoryServer()
    name = register(server, "a", 0)
    register(server, "far", 0, private="172.16.0.1")
    forget_record(server, "far")
    server._add("junk", 99, b"", 99)
    server._add(name.replace("ec2.a", "ec2.b"), 99, b"", 99)
    assert strict.look(settings, MemoryRegistry(server)).unvouched == ()


def test_the_word_is_written_and_read(settings: Settings) -> None:
    registry = MemoryRegistry(MemoryServer())
    said = strict.say(registry, on=True, clock=lambda: 1_764_244_800.0)
    assert said == Strict(True, "2025-11-27T12:00:00Z")
    assert strict.look(settings, registry).on
    strict.say(registry, on=False, clock=lambda: 1_764_244_801.0)
    assert not strict.look(settings, registry).on


def test_a_lease_without_a_record_would_be_kept_out() -> None:
    server = MemoryServer()
    register(server, "a", 0)
    MemoryRegistry(server).acquire("b", OVERLAY)
    assert without_record(MemoryRegistry(server)) == ["b"]
