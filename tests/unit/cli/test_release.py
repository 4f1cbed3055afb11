"""``neti release --fleet`` and ``neti lease release``: what they write, and what they say."""

import json
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from neti.cli import cli
from neti.config import load
from neti.model.groups import GroupLine, Groups
from neti.model.settings import RegistryTLS
from neti.registry.embedded.registry import EmbeddedRegistry
from neti.registry.groups import encode
from neti.registry.release import decode

SUBNET = IPv4Network("192.168.0.0/18")


@pytest.fixture
def registry(tmp_path: Path) -> EmbeddedRegistry:
    (tmp_path / "neti.yml").write_text(
        f"registry: embedded:{tmp_path}/registry.db\n"
        "sites: {ec2: {private: [10.0.0.0/16], public: [198.51.100.0/24]}}\n"
        f"table_files_path: {tmp_path}/state\n"
    )
    made = EmbeddedRegistry(tmp_path / "registry.db")
    for host_id in ("db-1", "db-2", "web-1"):
        made.acquire(host_id, SUBNET)
    overlay = made.lease_of("web-1")
    name = f"1.0a00000100000000{int(overlay or 0):08x}.0.ec2.web-1"
    made.register(host_id="web-1", name=name, data=b"", detail=b"{}")
    return made


def run(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "-c", str(tmp_path / "neti.yml")])


def test_everybody_who_holds_a_lease_and_is_not_registered(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    done = run(tmp_path, "release", "--fleet", "--site", "ec2")
    assert done.exit_code == 0, done.output
    assert "2 hosts" in done.output
    (word,) = decode(registry.setting("release"))
    assert [word.about(i, "ec2") for i in ("db-1", "db-2", "web-1")] == [True, True, False]
    assert not word.about("db-1", "vpc")


def test_who_is_registered_is_not_let_go(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    done = run(tmp_path, "release", "--fleet", "web-1")
    assert done.exit_code == 1
    assert "not released, because they are registered: web-1" in done.output
    assert registry.setting("release") is None


def test_an_id_that_nobody_has_heard_of_is_named(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """It may be misspelt; after a registry was wiped it may be right: so it is written."""
    done = run(tmp_path, "release", "--fleet", "db-1", "db-l")
    assert done.exit_code == 0
    assert "no lease, no entry and no loss on this host is of db-l: misspelt?" in done.stderr
    (word,) = decode(registry.setting("release"))
    assert word.about("db-l", "ec2")


@pytest.mark.parametrize(
    "arguments", [["--fleet", "--all"], ["--site", "ec2", "db-1"], ["--fleet", "--site", "ec3"], []]
)
def test_what_makes_no_sense_changes_nothing(
    registry: EmbeddedRegistry, tmp_path: Path, arguments: list[str]
) -> None:
    assert run(tmp_path, "release", *arguments).exit_code != 0
    assert registry.setting("release") is None


def test_a_released_lease_is_said_to_those_who_are_away_as_well(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    done = run(tmp_path, "lease", "release", "db-1", "--yes")
    assert done.exit_code == 0, done.output
    assert registry.lease_of("db-1") is None
    (word,) = decode(registry.setting("release"))
    assert word.about("db-1", "ec2")
    assert not word.about("db-2", "ec2")


def test_an_address_is_not_given_to_a_misspelt_host(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """At night, in the middle of a move: the address would belong to nobody."""
    before = registry.lease_of("db-1")
    done = run(tmp_path, "lease", "move", "db-1", "nope")
    assert done.exit_code == 1
    assert "nope is not registered, holds no lease" in done.stderr
    assert registry.lease_of("db-1") == before
    assert run(tmp_path, "lease", "move", "db-1", "web-1").exit_code == 0
    assert registry.lease_of("web-1") == before
    assert run(tmp_path, "lease", "move", "web-1", "nope", "--force", "--yes").exit_code == 0
    assert registry.lease_of("nope") == before


def test_groups_that_the_new_host_is_not_in_are_named(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """The address moves, and groups go by ids."""
    lines = {
        "by-id": (GroupLine("db-1"),),
        "by-pattern": (GroupLine("db-*"),),
        "both": (GroupLine("db-1"), GroupLine("web-?", site="ec2")),
        "ended": (GroupLine("db-1", until=1.0),),
        "elsewhere": (GroupLine("db-1"), GroupLine("web-*", site="vpc")),
        "other": (GroupLine("db-2"),),
    }
    registry.edit_setting("groups", lambda _: encode(Groups(lines, 1)))
    done = run(tmp_path, "lease", "move", "db-1", "web-1")
    assert done.exit_code == 0, done.output
    named = [line for line in done.stdout.splitlines() if line.startswith("→")]
    assert named == [
        f"→ neti group add {name} web-1" for name in ("by-id", "by-pattern", "elsewhere")
    ]
    assert "group by-id has a line for db-1 and none for web-1" in done.stdout


def test_groups_that_cannot_be_read_keep_no_address_from_moving(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    before = registry.lease_of("db-1")
    registry.edit_setting("groups", lambda _: b"no JSON")
    done = run(tmp_path, "lease", "move", "db-1", "web-1")
    assert done.exit_code == 0, done.output
    assert registry.lease_of("web-1") == before
    assert "whether web-1 is in the groups of db-1 is not known" in done.stderr


@pytest.mark.parametrize("readable", [True, False])
def test_an_id_that_becomes_nobodys_by_a_move_is_asked_about_first(
    readable: bool, registry: EmbeddedRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no record, and a group has a line for it, or may have one."""
    files = RegistryTLS(ca=tmp_path, cert=tmp_path, key=tmp_path)
    monkeypatch.setattr("neti.cli.lease_move.load", lambda p: replace(load(p), registry_tls=files))
    groups = encode(Groups({"db": (GroupLine("db-1"),)}, 1)) if readable else b"x"
    registry.edit_setting("groups", lambda _: groups)
    before = registry.lease_of("db-1")
    asked = run(tmp_path, "lease", "move", "db-1", "web-1")
    assert asked.exit_code == 1
    which = "group db has a line" if readable else "whether a group has a line for it is not known"
    assert f"db-1 would be nobody's without its lease: {which}" in asked.stderr
    assert registry.lease_of("db-1") == before
    done = run(tmp_path, "lease", "move", "db-1", "web-1", "--yes", "--json")
    assert json.loads(done.stdout)["still_in"] == (["db"] if readable else None)
    assert registry.lease_of("web-1") == before
