"""Who would be in an id's groups once its lease is released."""

from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from neti.aws import lease_gc
from neti.aws.terminated import Lease
from neti.config import load
from neti.model.groups import GroupLine, Groups
from neti.model.settings import RegistryTLS, Settings
from neti.oneshot.grouping import heirs, heirs_of_moved
from neti.registry.groups import encode
from neti.registry.memory import MemoryRegistry, MemoryServer

TLS = RegistryTLS(ca=Path("/ca"), cert=Path("/cert"), key=Path("/key"))
UNREADABLE = b"x"


@pytest.fixture(name="settings")
def _settings(tmp_path: Path) -> Settings:
    """Certificates say who is who, and anybody may begin a host."""
    path = tmp_path / "neti.yml"
    path.write_text(
        f"registry: embedded:{tmp_path}/registry.db\nsites: {{dc: {{private: [10.0.0.0/16]}}}}\n"
    )
    return replace(load(path), registry_tls=TLS)


@pytest.fixture(name="registry")
def _registry() -> MemoryRegistry:
    made = MemoryRegistry(MemoryServer())
    made.acquire("web-3", IPv4Network("192.168.0.0/24"))
    return made


def test_while_groups_cannot_be_read_no_id_is_given_up(
    settings: Settings, registry: MemoryRegistry
) -> None:
    """Agents may follow the last that could be: who took the id would be in there."""
    registry.change_setting("groups", UNREADABLE)
    found = heirs(settings, registry, ["web-3"], 0.0)
    refusal = found.refusal("web-3")
    assert refusal is not None
    assert "whether a group has a line for it is not known" in str(refusal)
    assert "is not JSON" in str(refusal)
    assert found.still_in("web-3") is None
    assert "is not known" in found.left("web-3")[0]
    (overlay,) = registry.leases()
    done, kept = lease_gc.release(
        settings, registry, [Lease(host_id="web-3", overlay=overlay)], now=0.0
    )
    assert (done, [one.host_id for one, _ in kept]) == ([], ["web-3"])
    assert list(registry.leases().values()) == ["web-3"]


def test_where_no_certificate_owns_an_id_it_is_only_said(
    settings: Settings, registry: MemoryRegistry
) -> None:
    registry.change_setting("groups", UNREADABLE)
    found = heirs(replace(settings, registry_tls=None), registry, ["web-3"], 0.0)
    assert found.refusal("web-3") is None
    assert "is not known" in found.left("web-3")[0]


def test_what_no_group_names_may_go(settings: Settings, registry: MemoryRegistry) -> None:
    registry.change_setting("groups", encode(Groups({"db": (GroupLine("db-1"),)}, 1)))
    found = heirs(settings, registry, ["web-3", "db-1"], 0.0)
    assert found.refusal("web-3") is None
    assert (found.still_in("web-3"), found.still_in("db-1")) == ((), ("db",))
    assert found.left("web-3") == []


def test_who_has_a_record_stays_its_owners_when_its_lease_moves(
    settings: Settings, registry: MemoryRegistry
) -> None:
    server = MemoryServer(rights=True)
    server.admit("web-3", "host-a", IPv4Network("192.168.0.0/24"))
    owned = MemoryRegistry(server, owner="operator-chief")
    for one in (owned, registry):
        one.change_setting("groups", encode(Groups({"db": (GroupLine("web-3"),)}, 1)))
    assert heirs_of_moved(settings, owned, "web-3", 0.0).risk("web-3") is None
    nobodys = heirs_of_moved(settings, registry, "web-3", 0.0)
    assert (nobodys.risk("web-3") or "").startswith("group db has a line for it")
