"""``neti lease release``: what may cut somebody off is asked first, and what is done is said."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from neti.cli import cli
from neti.cli.common import registry_of
from neti.config import load
from neti.registry.leases import DamagedLease
from neti.registry.opening import open_registry

CONFIG = """
registry: embedded:{folder}/registry.db
site: ec2
identity: {{id: a, private: 10.0.0.1}}
table_files_path: {folder}/state
"""
ENTRY = "1.{:024x}.0.ec2.a"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "neti.yml"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


def leased(config: Path) -> list[str]:
    with registry_of(load(config)) as registry:
        return list(registry.leases().values())


@pytest.fixture
def release(config: Path) -> Callable[..., Result]:
    settings = load(config)
    with closing(open_registry(settings, "ec2")) as registry:
        registry.acquire("lost", settings.overlay_subnet)

    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, ["lease", "release", *words, "-c", str(config)])

    return run


def test_where_nobody_can_be_asked_nothing_is_released(
    release: Callable[..., Result], config: Path
) -> None:
    done = release("lost")
    assert done.exit_code == 1
    assert "If it still runs, cut off from the registry, its clients lose" in done.stderr
    assert "→ in a script, add --yes" in done.stderr
    assert leased(config) == ["lost"]


@pytest.mark.parametrize(("answer", "left"), [("n\n", ["lost"]), ("", ["lost"]), ("y\n", [])])
def test_on_a_terminal_it_asks(
    answer: str,
    left: list[str],
    release: Callable[..., Result],
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("neti.cli.output.is_terminal", lambda _stream: True)
    line = ["lease", "release", "lost", "-c", str(config)]
    done = CliRunner().invoke(cli, line, input=answer)
    assert leased(config) == left
    assert done.exit_code == (1 if left else 0)
    assert ("nothing was changed" in done.stderr) == bool(left)


def test_yes_is_for_scripts(release: Callable[..., Result], config: Path) -> None:
    done = release("lost", "--yes")
    assert done.exit_code == 0
    assert "any host can get it now" in done.stdout
    assert leased(config) == []
    again = release("lost", "--yes")
    assert (again.exit_code, again.stdout) == (1, "")
    assert "holds no lease" in again.stderr


def test_a_damaged_lease_is_deleted_and_that_is_said(
    release: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "neti.registry.embedded.registry.EmbeddedRegistry.release",
        lambda _self, _id: DamagedLease("rubbish"),
    )
    done = release("lost", "--yes")
    assert done.exit_code == 0
    assert "deleted the damaged lease of lost: it named 'rubbish'" in done.stdout


def test_a_registered_host_is_refused_without_a_question(
    release: Callable[..., Result], config: Path
) -> None:
    with registry_of(load(config)) as registry:
        registry.acquire("a", load(config).overlay_subnet)
        registry.register(host_id="a", name=ENTRY.format(1), data=b"", detail=b"{}")
        done = release("a")
    assert done.exit_code == 1
    assert "its agent has to leave before" in done.stderr
    assert "--yes" not in done.stderr


def test_many_are_released_with_one_question(release: Callable[..., Result], config: Path) -> None:
    """Anybody with a certificate can take hundreds; and one that stays keeps no other."""
    settings = load(config)
    squatted = [f"squat-{number}" for number in range(30)]
    with registry_of(settings) as registry:
        for host_id in (*squatted, "a"):
            overlay = registry.acquire(host_id, settings.overlay_subnet)
        name = ENTRY.format(int(overlay))
        registry.register(host_id="a", name=name, data=b"", detail=b"{}")
        refused = release(*squatted)
        assert refused.exit_code == 1
        assert "30 hosts are not registered: squat-0, " in refused.stderr
        assert len(leased(config)) == 32
        done = release(*squatted[:20], "a", "nobody", *squatted[20:], "--yes")
        assert done.exit_code == 1
        assert "a is registered" in done.stderr
        assert "nobody holds no lease" in done.stderr
        assert len(done.stdout.splitlines()) == 30
        assert sorted(leased(config)) == ["a", "lost"]


def test_groups_that_go_on_naming_the_id_are_told(
    release: Callable[..., Result], config: Path
) -> None:
    """Where no certificate says who is who the id was anybody's before."""
    words = ["group", "set", "db", "lost", "-c", str(config)]
    assert CliRunner().invoke(cli, words).exit_code == 0
    done = release("lost", "--yes")
    assert done.exit_code == 0
    assert "group db has a line for lost: whoever registers" in done.stdout
    assert "→ neti group remove db lost" in done.stdout
