"""``neti gateway``: what it changes, and what it says."""

import json
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from neti.cli import cli
from neti.fleet.registered import Registered
from neti.model import Member, entry
from neti.oneshot import registered
from neti.registry.embedded.registry import EmbeddedRegistry


@pytest.fixture(name="config")
def _config(tmp_path: Path) -> Path:
    path = tmp_path / "neti.yml"
    path.write_text(
        f"registry: embedded:{tmp_path}/registry.db\ntable_files_path: {tmp_path}/state\n"
        "site: dc\nidentity: {id: a, private: 10.0.0.5}\nsites:\n"
        "  dc: {private: [10.0.0.0/16], public: [198.51.100.0/24], encrypt: prefer,"
        " reached_by: gateway, gateways: [gw-1, gw-2]}\n"
        "  vpc: {private: [10.0.0.0/16], public: [203.0.113.0/24], encrypt: prefer}\n"
    )
    return path


@pytest.fixture(name="registry")
def _registry(tmp_path: Path) -> Iterator[EmbeddedRegistry]:
    with closing(EmbeddedRegistry(tmp_path / "registry.db")) as made:
        yield made


def register(
    registry: EmbeddedRegistry,
    number: int,
    public: str | None = "198.51.100.{}",
    site: str = "dc",
    private: str = "10.0.0.{}",
) -> None:
    member = Member(
        id=f"gw-{number}",
        site=site,
        private=IPv4Address(private.format(number)),
        public=IPv4Address(public.format(number)) if public else None,
        overlay=registry.acquire(f"gw-{number}", IPv4Network("192.168.0.0/18")),
    )
    registry.register(
        host_id=member.id,
        name=entry.encode(member),
        data=b"",
        detail=b"{}",
        overlay=member.overlay,
    )


def run(config: Path, *words: str, command: str = "gateway") -> Result:
    return CliRunner().invoke(cli, [command, *words, "-c", str(config)])


def test_a_gateway_is_drained_and_used_again(
    config: Path, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    register(registry, 1)
    with closing(EmbeddedRegistry(tmp_path / "registry.db")) as other:
        register(other, 2)
        dry = run(config, "drain", "gw-1", "--dry-run")
        assert "gw-1 would be drained; nothing was changed" in dry.stdout
        assert registry.setting("drained") is None
        told = run(config, "drain", "gw-1")
        assert told.exit_code == 0, told.output
        assert told.stdout.splitlines()[:2] == ["gw-1 is drained", "hosts of site dc go by gw-2"]
        assert registry.setting("drained") == b"1 gw-1"
        again = run(config, "drain", "gw-1")
        assert "nothing to change: gw-1 is drained" in again.stdout
        assert "gateways that are drained: gw-1" in run(config, command="fleet").stderr
        last = run(config, "drain", "gw-2")
        assert last.exit_code == 1
        assert "no other gateway of site dc is registered" in last.stderr
        assert "hosts would go on through gw-2: nothing was changed" in last.stderr
        assert "'neti gateway undrain gw-1', start another one" in last.stderr
        assert registry.setting("drained") == b"1 gw-1"
        told = run(config, "undrain", "gw-1", "--json")
        assert json.loads(told.stdout) == {
            "id": "gw-1",
            "site": "dc",
            "drained": False,
            "changed": True,
            "dry_run": False,
            "others": ["gw-2"],
            "all_drained": [],
        }
        assert registry.setting("drained") is None


def test_one_that_is_not_registered_is_nobody_to_go_by(
    config: Path, registry: EmbeddedRegistry
) -> None:
    register(registry, 1)
    refused = run(config, "drain", "gw-1")
    assert refused.exit_code == 1
    assert "nothing was changed" in refused.stderr
    assert registry.setting("drained") is None


@pytest.mark.parametrize(
    "where",
    [
        {"public": None},
        {"public": "203.0.113.{}", "site": "vpc"},
        {"public": "198.51.100.1"},  # as gw-1: only one of the two is there
        {"private": "192.0.2.{}"},  # not of its site: no agent believes it
    ],
)
def test_one_that_agents_would_not_go_by_is_nobody_to_go_by(
    config: Path, registry: EmbeddedRegistry, tmp_path: Path, where: dict[str, Any]
) -> None:
    register(registry, 1)
    with closing(EmbeddedRegistry(tmp_path / "registry.db")) as other:
        register(other, 2, **where)
        refused = run(config, "drain", "gw-1")
        assert refused.exit_code == 1, refused.output
        assert "no other gateway of site dc is registered, has a public address" in refused.stderr
    assert registry.setting("drained") is None


def test_of_two_who_drain_the_last_two_at_once_one_is_refused(
    config: Path, registry: EmbeddedRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = registered.read

    def meanwhile(*given: Any, **more: Any) -> Registered:
        registry.change_setting("drained", b"1 gw-2")
        return read(*given, **more)

    register(registry, 1)
    with closing(EmbeddedRegistry(tmp_path / "registry.db")) as other:
        register(other, 2)
        monkeypatch.setattr(registered, "read", meanwhile)
        refused = run(config, "drain", "gw-1")
        assert refused.exit_code == 1, refused.output
        assert "'neti gateway undrain gw-2', start another one" in refused.stderr
    assert registry.setting("drained") == b"1 gw-2"


def test_who_is_no_gateway_is_refused_and_one_that_was_can_be_forgotten(
    config: Path, registry: EmbeddedRegistry
) -> None:
    register(registry, 1)
    for word in ("drain", "undrain"):
        refused = run(config, word, "web-1")
        assert refused.exit_code == 1
        assert "gateways are gw-1, gw-2: nothing was changed" in refused.stderr
    registry.change_setting("drained", b"1 gone-1")
    assert run(config, "undrain", "gone-1").exit_code == 0
    assert registry.setting("drained") is None


def test_what_a_newer_version_wrote_is_not_overwritten(
    config: Path, registry: EmbeddedRegistry
) -> None:
    registry.change_setting("drained", b"2 gw-1")
    refused = run(config, "undrain", "gw-1")
    assert refused.exit_code == 1
    assert "upgrade this host" in refused.stderr
    assert registry.setting("drained") == b"2 gw-1"
