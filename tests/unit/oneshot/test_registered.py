"""What commands say of the fleet is what its agents believe, whatever stands in the registry."""

import random
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import Mock

import pytest

from neti.fleet.admission import Admission
from neti.fleet.entries import MAX_JUDGED
from neti.fleet.fleet import Fleet
from neti.identity.preflight import registry_addresses
from neti.model import Member, Reach, Site, entry
from neti.model.settings import Settings
from neti.oneshot import grouping, registered
from neti.oneshot import seen as module
from neti.oneshot.documents import told_by
from neti.registry import Detail, detail
from neti.registry.memory import MemoryRegistry, MemoryServer

OVERLAY = IPv4Network("192.168.0.0/18")
SERVER = IPv4Address("10.0.0.77")
SITES = {
    name: Site(name=name, private=(IPv4Network("10.0.0.0/16"),), public=())
    for name in ("ec2", "vpc")
}


def settings(tmp_path: Path) -> Settings:
    return Settings(
        path=tmp_path / "neti.yml",
        sites=MappingProxyType(SITES),
        overlay_subnet=OVERLAY,
        zk_hosts=MappingProxyType({"vpc": (f"{SERVER}:2181",)}),
        table_files_path=tmp_path,
    )


def member(host_id: str, private: int, overlay: int, site: str = "ec2") -> Member:
    return Member(
        id=host_id,
        site=site,
        private=IPv4Address("10.0.0.0") + private,
        public=None,
        overlay=IPv4Address("192.168.0.0") + overlay,
    )


def crowd(host_id: str, count: int, overlay: int, generation: int = 0) -> list[str]:
    """Entries of one id whose overlay address is leased to nobody."""
    ones = (member(host_id, 1000 + number, overlay) for number in range(count))
    return [entry.encode(replace(one, generation=generation)) for one in ones]


HONEST = [member("a", 1, 1), member("b", 2, 2), member("c", 3, 3, "vpc")]
CROWDS = {
    "of worthless entries under a live id": crowd("a", MAX_JUDGED + 1, 77),
    "of many more": crowd("a", 20 * MAX_JUDGED, 77),
    "with higher generations": crowd("a", 3 * MAX_JUDGED, 77, generation=900),
    "that names another member's address": crowd("a", 3 * MAX_JUDGED, 2),
    "of everybody": [n for one in HONEST for n in crowd(one.id, 40, 77)],
}


def by_an_agent(
    names: Iterable[str], leases: Mapping[IPv4Address, str], site: str, reserved: frozenset[object]
) -> Fleet:
    """It hears one after another, and reads each lease that it asks for."""
    fleet = Fleet(
        Admission(sites=SITES, overlay_subnet=OVERLAY, reserved=reserved, own_site=site),  # type: ignore[arg-type]  # addresses
        linger_seconds=900,
    )
    for name in names:
        fleet.appeared(name)
        while asked := fleet.questions():
            for overlay in asked.leases:
                fleet.lease_read(overlay, leases.get(overlay))
    return fleet


@pytest.mark.parametrize("kind", CROWDS)
def test_a_crowd_hides_nobody_from_a_listing_that_is_not_hidden_from_agents(
    kind: str, tmp_path: Path
) -> None:
    server = MemoryServer()
    registry = MemoryRegistry(server)
    for one in HONEST:
        registry.acquire(one.id, OVERLAY, prefer=one.overlay)
    names = [*map(entry.encode, HONEST), *CROWDS[kind]]
    random.Random(7).shuffle(names)
    for name in names:
        server.put(name)
    listed = registered.read(settings(tmp_path), registry).members
    assert listed == {one.id: one for one in HONEST}
    for site in SITES:
        agents = by_an_agent(names, registry.leases(), site, frozenset({SERVER}))
        assert agents.members == listed


def test_a_servers_private_address_is_refused_in_its_own_site_only(tmp_path: Path) -> None:
    server = MemoryServer()
    registry = MemoryRegistry(server)
    here, there = member("there", 77, 4, "ec2"), member("forger", 77, 5, "vpc")
    for one in (here, there):
        registry.acquire(one.id, OVERLAY, prefer=one.overlay)
        server.put(entry.encode(one))
    known = settings(tmp_path)
    seen = registered.read(known, registry)
    assert seen.members == {"there": here}
    assert [why for why in seen.skipped.values() if "registry's servers" in why]
    for site, believed in (("ec2", {"there", "forger"}), ("vpc", {"there"})):
        reserved = frozenset(registry_addresses(known, site))
        names = map(entry.encode, (here, there))
        agents = by_an_agent(names, registry.leases(), site, reserved)
        assert set(agents.members) == believed


def test_documents_are_read_only_where_they_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 16,000 members they are 32,000 reads."""
    server = MemoryServer()
    registry, known = MemoryRegistry(server), settings(tmp_path)
    for one in HONEST:
        registry.acquire(one.id, OVERLAY, prefer=one.overlay)
        server.put(entry.encode(one))
    details = Mock(wraps=registry.details)
    monkeypatch.setattr(registry, "details", details)
    ids = {one.id for one in HONEST}
    assert registered.read(known, registry, documents=False).members.keys() == ids
    assert registered.believed(known, registry).keys() == ids
    assert registered.unregistered(known, registry) == frozenset()
    assert not grouping.look(known, registry, 0.0).groups.lines
    assert details.call_count == 0
    registered.read(known, registry)
    assert details.call_count == 1


def test_names_that_several_members_want_are_told(tmp_path: Path) -> None:
    """With whose the name is, by the rules of listings."""
    server = MemoryServer()
    for one in HONEST:
        registry = MemoryRegistry(server)
        registry.acquire(one.id, OVERLAY, prefer=one.overlay)
        registry.register(
            host_id=one.id,
            name=entry.encode(one),
            data=b"",
            detail=detail.encode(detail.Document(name="db" if one.id != "c" else "web")),
        )
    said = registered.contested_names(settings(tmp_path), registry)
    assert said == ["db is claimed by 2 hosts, so none of them is called so: a, b"]


def test_hosts_are_listed_with_their_gateway(tmp_path: Path) -> None:
    """Only those behind one; and none where no gateway is registered."""
    sites = {
        name: replace(site, reached_by=Reach.GATEWAY, gateways=(f"gw-{name}",))
        for name, site in SITES.items()
    }
    asked = replace(settings(tmp_path), sites=MappingProxyType(sites))
    server = MemoryServer()

    def listed() -> dict[str, str | None]:
        seen = module.seen(asked, lambda _: nullcontext(MemoryRegistry(server)), lambda *_: [])
        return {row["id"]: row["gateway"] for row in seen.rows()}

    gateway = replace(member("gw-ec2", 9, 9), public=IPv4Address("198.51.100.9"))
    for one in (*HONEST, gateway):
        registry = MemoryRegistry(server)
        registry.acquire(one.id, OVERLAY, prefer=one.overlay)
        registry.register(host_id=one.id, name=entry.encode(one), data=b"", detail=b"")
        if one is HONEST[-1]:
            assert set(listed().values()) == {None}
    assert listed() == {"a": "gw-ec2", "b": "gw-ec2", "c": None, "gw-ec2": None}


def test_a_document_that_is_not_its_hosts_own_is_not_believed_and_named(tmp_path: Path) -> None:
    """A member made it while the host was away, and members can delete nothing there. It ends with
    its maker's session, and the host's next description makes its own."""
    server = MemoryServer(rights=True)
    one = HONEST[0]

    def seen() -> module.Seen:
        return module.seen(
            settings(tmp_path), lambda _: nullcontext(MemoryRegistry(server)), lambda *_: []
        )

    evil = MemoryRegistry(server, owner="evil")
    evil.acquire("evil", OVERLAY)
    forged = detail.encode(detail.Document(name="db", stage="enforced", problems=()))
    away = HONEST[1]
    evil.register(
        host_id="evil", name=entry.encode(away).replace(".b", ".evil"), data=b"", detail=b"{}"
    )
    server._holders[one.id] = replace(server._holders["evil"], detail=forged)
    host = MemoryRegistry(server, owner=one.id)
    host.acquire(one.id, OVERLAY, prefer=one.overlay)
    own = detail.encode(detail.Document(stage="down"))
    host.register(host_id=one.id, name=entry.encode(one), data=b"", detail=own)
    found = seen()
    assert found.not_own == {one.id}
    (row,) = [row for row in found.rows() if row["id"] == one.id]
    assert (row["stage"], row["problems"]) == ("?", None)
    evil.close()
    host.describe(one.id, own)
    found = seen()
    assert found.not_own == frozenset()
    (row,) = [row for row in found.rows() if row["id"] == one.id]
    assert row["stage"] == "down"


def test_what_hosts_report_is_for_operators_and_who_is_none_is_told_so(tmp_path: Path) -> None:
    server, one = MemoryServer(rights=True), HONEST[0]
    host = MemoryRegistry(server, owner=one.id)
    host.acquire(one.id, OVERLAY, prefer=one.overlay)
    whole = detail.Document(name="web", stage="down", written=1)
    host.register(
        host_id=one.id,
        name=entry.encode(one),
        data=b"",
        detail=detail.encode(detail.for_members(whole)),
        report=detail.encode(whole),
    )

    def seen(owner: str) -> module.Seen:
        registry = MemoryRegistry(server, owner=owner)
        return module.seen(settings(tmp_path), lambda _: nullcontext(registry), lambda *_: [])

    (row,) = seen("").rows()
    assert (row["name"], row["stage"]) == ("web", "down")
    assert not seen("").in_part
    (row,) = seen("b").rows()
    assert (row["name"], row["stage"]) == ("web", "?")
    assert seen("b").in_part


def reported(host: MemoryRegistry, said: detail.Document, **later: Any) -> dict[str, str]:
    """A registered host with this report; ``later``: what its document says otherwise."""
    one = HONEST[0]
    name = entry.encode(one)
    host.register(
        host_id=one.id,
        name=name,
        data=b"",
        detail=detail.encode(replace(detail.for_members(said), **later)),
        report=detail.encode(said),
    )
    return {one.id: name}


WELL = detail.Document(version="0.2", pid=7, stage="enforced", problems=(), written=1000)


@pytest.mark.parametrize("later", [{"version": "0.1"}, {"pid": 8}, {"written": 1001}])
def test_a_report_counts_only_beside_the_document_that_was_written_with_it(
    later: dict[str, Any],
) -> None:
    """An agent of an earlier version writes that one alone, in the same session."""
    registry = MemoryRegistry(MemoryServer())
    told = told_by(registry, reported(registry, WELL, **later))
    assert (told.by["a"].stage, told.by["a"].problems, told.reported) == ("", None, frozenset())


def test_the_document_of_a_host_that_went_back_to_an_earlier_version_counts() -> None:
    registry = MemoryRegistry(MemoryServer())
    entries = reported(registry, WELL, version="0.1", stage="down", written=1001)
    assert told_by(registry, entries).by["a"].stage == "down"


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{", b'{"pid":true,"version":7,"written":-1}', b'{"version":"x\x1b"}']
)
def test_what_cannot_be_read_is_of_no_writing_but_one_that_says_nothing(raw: bytes) -> None:
    """Nor does it raise: a member may write anything there."""
    assert detail.of_one_writing(raw, detail.decode(raw))
    assert not detail.of_one_writing(raw, WELL)
    assert not detail.of_one_writing(detail.encode(WELL), detail.decode(raw))


def test_who_writes_between_two_reads_is_read_again() -> None:
    """Document and report agree then, and nobody is silent for a moment because of a reader."""
    registry = MemoryRegistry(MemoryServer())
    entries = reported(registry, WELL)
    details = registry.details
    reads = list[list[str]]()

    def and_then_it_writes(host_ids: Iterable[str] | None = None) -> list[Detail]:
        found = details(host_ids)
        reads.append(sorted(host_ids or ()))
        if len(reads) == 1:
            reported(registry, replace(WELL, written=1001))
        return found

    registry.details = and_then_it_writes  # type: ignore[method-assign]
    told = told_by(registry, {**entries, "b": None})
    assert told.by["a"] == replace(WELL, written=1001)
    assert told.reported == {"a"}
    assert reads == [["a", "b"], ["a"]]
