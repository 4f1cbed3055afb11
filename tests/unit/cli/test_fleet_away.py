"""The registry does not answer: what this host's agent knows, and an exit code that says so."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from neti.cli import cli, common, lease
from neti.errors import NetiError, RegistryUnavailable
from neti.model.settings import Settings

MEMBER = {
    "id": "a",
    "site": "here",
    "private": "10.0.0.1",
    "public": None,
    "overlay": "192.168.0.9",
    "lost": False,
}


@pytest.fixture(name="config")
def _config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    @contextmanager
    def away(_: Settings) -> Iterator[None]:
        raise RegistryUnavailable("no server answered")
        yield

    def ask(_: Path, command: str, **__: object) -> Any:
        if command == "members":
            return [MEMBER]
        raise NetiError("of no matter")

    for module in (common, lease):
        monkeypatch.setattr(module, "ask", ask)
        monkeypatch.setattr(module, "registry_of", away)
    path = tmp_path / "neti.yml"
    path.write_text(
        "overlay_subnet: 192.168.0.0/16\nsites: {here: {}}\nsite: here\n"
        f"identity: {{id: me, private: 10.0.0.5}}\ntable_files_path: {tmp_path}/state\n"
        f"registry: embedded:{tmp_path}/registry.db\n"
    )
    return path


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, [*words, "-c", str(config)])


def test_a_list_that_is_the_agents_has_an_exit_code_of_its_own(config: Path) -> None:
    done = run(config, "fleet", "--json")
    assert [row["id"] for row in json.loads(done.stdout)["members"]] == ["a"]
    assert done.exit_code == 3
    assert "what this host's agent knew last" in done.stderr


@pytest.mark.parametrize(
    ("words", "shown"), [(("hosts",), "192.168.0.9\ta\n"), (("lease", "list"), "1 lease\n")]
)
def test_so_have_addresses_alone(config: Path, words: tuple[str, ...], shown: str) -> None:
    done = run(config, *words)
    assert done.stdout.endswith(shown), done.stdout
    assert done.exit_code == 3
    assert "what this host's agent knew last" in done.stderr


def test_what_no_agent_tells_is_not_none(config: Path) -> None:
    done = run(config, "fleet", "--skipped")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no agent tells which entries" in done.stderr


def test_a_gate_does_not_pass_on_it(config: Path) -> None:
    assert run(config, "fleet", "--require", "enforced").exit_code == 1


@pytest.mark.parametrize("words", [("fleet", "preview"), ("fleet", "leftovers")])
def test_what_hosts_say_is_not_made_up(config: Path, words: tuple[str, ...]) -> None:
    """Nobody was heard, which is not the same as that nobody says anything."""
    done = run(config, *words)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "stands in the registry, which does not answer" in done.stderr
