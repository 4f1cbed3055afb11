"""``neti key``: what it asks, and what it says."""

import json
from contextlib import closing
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from neti.cli import cli
from neti.control import client
from neti.model import Member, entry
from neti.registry.embedded.registry import EmbeddedRegistry
from neti.registry.revoked import RevokedKey

KEY = "A" * 42 + "8"


@pytest.fixture(name="config")
def _config(tmp_path: Path) -> Path:
    path = tmp_path / "neti.yml"
    path.write_text(
        f"registry: embedded:{tmp_path}/registry.db\ntable_files_path: {tmp_path}/state\n"
        "site: ec2\nidentity: {id: a, private: 10.0.0.5}\n"
    )
    return path


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["key", *words, "-c", str(config)])


def registered(registry: EmbeddedRegistry) -> None:
    overlay = IPv4Address("192.168.0.1")
    member = Member(
        id="a", site="ec2", private=IPv4Address("10.0.0.5"), public=None, overlay=overlay
    )
    registry.register(
        host_id="a",
        name=entry.encode(member),
        data=b"",
        detail=b"{}",
        overlay=overlay,
        key=KEY,
    )


def test_revoking_says_what_comes_of_it(config: Path, tmp_path: Path) -> None:
    with closing(EmbeddedRegistry(tmp_path / "registry.db")) as registry:
        registered(registry)
        told = run(config, "revoke", "a")
        assert told.exit_code == 0, told.output
        assert f"nobody can register with {KEY}, the public key of a, any more" in told.stdout
        assert "peers drop it within three seconds, whatever a does" in told.stdout
        assert "→ 'neti status' on a shows the new one" in told.stdout
        again = run(config, "revoke", "a")
        assert again.exit_code == 1
        assert "nothing was changed" in again.stderr


def test_revoking_a_former_key_does_not_say_that_it_is_the_present_one(
    config: Path, tmp_path: Path
) -> None:
    former = "B" * 42 + "A"
    with closing(EmbeddedRegistry(tmp_path / "registry.db")) as registry:
        registered(registry)
        told = run(config, "revoke", "a", "--key", former)
        assert told.exit_code == 0, told.output
        assert f"nobody can register with {former} any more" in told.stdout
        assert "it is not the present key of a, which keeps its own" in told.stdout
        assert "makes another one" not in told.stdout
        assert len(registry.names()) == 1
        again = run(config, "revoke", "a", "--key", former)
        assert f"{former} was revoked before" in again.stderr


@pytest.mark.parametrize(
    ("says", "told"), [(None, "cannot be read"), ("", ""), ("B" * 42 + "A", "keeps its own")]
)
def test_whose_key_is_revoked_is_said_only_where_it_is_known(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    says: str | None,
    told: str,
) -> None:
    with closing(EmbeddedRegistry(tmp_path / "registry.db")) as registry:
        registered(registry)
    found = RevokedKey(KEY, said=says)
    monkeypatch.setattr(EmbeddedRegistry, "revoke_key", lambda *_: found)
    said = run(config, "revoke", "a", "--key", KEY).stdout
    assert ("cannot be read" in said) == (told == "cannot be read")
    assert ("keeps its own" in said) == (told == "keeps its own")
    assert "makes another one at once" not in said


def test_revoking_the_key_of_a_host_that_is_off_says_that_peers_drop_it(
    config: Path, tmp_path: Path
) -> None:
    with closing(EmbeddedRegistry(tmp_path / "registry.db")) as registry:
        registered(registry)
        name = next(iter(registry.names()))
        registry.leave(host_id="a", name=name, departure="left.0.a")
    told = run(config, "revoke", "a")
    assert told.exit_code == 0, told.output
    assert "a is not registered: peers drop this key within seconds" in told.stdout


def test_rotating_prints_both_keys(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def call(_folder: Path, what: str, **_: Any) -> dict[str, str]:
        asked.append(what)
        return {"public_key": KEY, "former": "former"}

    monkeypatch.setattr(client, "call", call)
    told = run(config, "rotate")
    assert (told.exit_code, asked) == (0, ["rotate"])
    assert f"this host's public key is {KEY} now" in told.stdout
    assert json.loads(run(config, "rotate", "--json").stdout)["former"] == "former"
