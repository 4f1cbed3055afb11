"""A configuration edited wrong takes away neither the ways to look nor those to get back in."""

import tempfile
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from neti.cli import cli
from neti.config import load
from neti.control import client
from neti.errors import ConfigError, RegistryUnavailable
from neti.identity.machine import fingerprint
from neti.registry.opening import open_registry
from neti.state.folder import StateFolder
from neti.state.last_good import load_or_last_good
from neti.state.records import Self

GOOD = "registry: embedded:{0}/r.db\ntable_files_path: {0}/state\nsite: ec2\nssh_port: 2222\n"
MISTAKES = {
    "an unknown key": GOOD + "ssh_prot: 22\n",
    "not YAML": GOOD + "open_ports: [\n",
    "quoted": GOOD.replace("{0}/state", "'{0}/state' # ours") + "ssh_prot: 22\n",
}


@pytest.fixture(name="config")
def _config() -> Iterator[Path]:
    # A path as short as a real one: 'neti check' says one line, and of a longer path only a part.
    with tempfile.TemporaryDirectory(prefix="n") as made:
        folder = StateFolder(Path(made, "state"))
        folder.load(fingerprint())
        folder.save_self(Self(overlay="192.168.0.7"))
        folder.keep_config(GOOD.format(made).encode())
        yield Path(made, "neti.yml")


def neti(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_a_folder_that_everyone_can_write_to_is_refused_as_a_configuration(config: Path) -> None:
    """Its copy may be anybody's. 'neti check' says what to do, and no class of an exception."""
    config.write_text(GOOD.format(config.parent))
    (config.parent / "state").chmod(0o777)
    with pytest.raises(ConfigError, match="chmod o-w"):
        load_or_last_good(config, Path("/nonexistent"))
    said = neti("check", "-c", config).stdout
    assert "chmod o-w" in said
    assert "StateError" not in said


def test_check_asks_an_agent_whose_folder_is_refused_since(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows this host, and what it says is not lost behind the folder's fault."""
    config.write_text(GOOD.format(config.parent))
    (config.parent / "state").chmod(0o777)
    told = {
        "version": "1",
        "id": "a",
        "site": "ec2",
        "private": "10.0.0.1",
        "registry": {"fresh": True},
        "registered": True,
        "members": {"total": 12},
        "drift": {"fight": "another program fights"},
    }
    asked = []

    def call(folder: Path, *_: object, **__: object) -> object:
        asked.append(folder)
        return told

    monkeypatch.setattr(client, "call", call)
    done = neti("check", "-c", config)
    assert done.exit_code == 2
    assert "chmod o-w" in done.stdout
    assert "another program fights" in done.stdout
    assert "members=12;" in done.stdout
    assert set(asked) == {config.parent / "state"}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_last_good_one_is_found_by_what_the_file_still_says(config: Path, mistake: str) -> None:
    config.write_text(MISTAKES[mistake].format(config.parent))
    settings, refused = load_or_last_good(config, Path("/nonexistent"))
    assert (settings.ssh_port, settings.path) == (2222, config)
    assert refused is not None


def test_a_file_that_is_gone_leaves_the_folder_that_is_named(config: Path) -> None:
    assert load_or_last_good(config, config.parent / "state")[0].ssh_port == 2222


def test_a_good_file_needs_no_copy(config: Path) -> None:
    config.write_text(GOOD.format(config.parent).replace("2222", "22"))
    settings, refused = load_or_last_good(config, config.parent / "state")
    assert (settings.ssh_port, refused) == (22, None)


@pytest.mark.parametrize("copy", [None, b"ssh_prot: 22\n"])
def test_without_a_good_copy_the_file_is_what_is_wrong(config: Path, copy: bytes | None) -> None:
    kept = config.parent / "state" / "neti.yml.good"
    kept.unlink()
    if copy is not None:
        kept.write_bytes(copy)
    config.write_text("ssh_prto: 22\n")
    with pytest.raises(ConfigError, match="ssh_prto"):
        load_or_last_good(config, config.parent / "state")


@pytest.mark.parametrize(
    "command", ["status", "confirm", "release", "verify", "preview", "metrics"]
)
def test_commands_ask_the_agent_nevertheless(config: Path, command: str) -> None:
    """None runs here: they get as far as to say that, and why they look there."""
    config.write_text(MISTAKES["an unknown key"].format(config.parent))
    asked = neti(command, *(["--all"] if command == "release" else []), "-c", config)
    assert "ssh_prot" in asked.stderr
    assert "using the last valid one" in asked.stderr
    assert "agent" in asked.stdout + asked.stderr.partition("using the last valid one")[2]
    assert asked.exit_code != 2


LOOKING = ("status", "confirm", "release --all", "verify", "preview", "metrics", "check")


@pytest.mark.parametrize(
    "command", [*LOOKING, "overlay-ip", "conntrack-max", "restore", "leave", "up"]
)
@pytest.mark.parametrize("valid", [True, False])
def test_looking_makes_no_folder(tmp_path: Path, command: str, valid: bool) -> None:
    """Neither where a valid configuration leads nor where an invalid one does."""
    config = tmp_path / "neti.yml"
    text = GOOD if valid else MISTAKES["an unknown key"]
    config.write_text(text.format(f"{tmp_path}/there"))
    words = [*command.split(), "-c", config]
    neti(*words, *(["--state", tmp_path / "else"] if command == "restore" else []))
    assert list(tmp_path.iterdir()) == [config]


@pytest.mark.parametrize(
    "command", ["fleet", "fleet --used", "hosts", "lookup b", "lease list", "plan --full", "plan"]
)
def test_looking_makes_no_registry(tmp_path: Path, command: str) -> None:
    config = tmp_path / "neti.yml"
    config.write_text(WITH_IDENTITY.format(tmp_path))
    done = neti(*command.split(), "-c", config)
    assert list(tmp_path.iterdir()) == [config]
    if "plan" not in command:
        assert done.exit_code == 1
    assert "there is no registry file" in done.stderr


def test_relax_makes_none_by_an_invalid_configuration(tmp_path: Path) -> None:
    """By a valid one it does: an agent that comes later shall find the word."""
    config = tmp_path / "neti.yml"
    config.write_text(MISTAKES["an unknown key"].format(f"{tmp_path}/there"))
    assert neti("relax", "-c", config).exit_code == 1
    assert list(tmp_path.iterdir()) == [config]


def test_a_default_folder_is_not_made_for_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_or_last_good(tmp_path / "none.yml", tmp_path / "state")
    assert not list(tmp_path.iterdir())


def test_the_overlay_address_is_known_nevertheless(config: Path) -> None:
    config.write_text(MISTAKES["not YAML"].format(config.parent))
    asked = neti("overlay-ip", "-c", config)
    assert (asked.exit_code, asked.stdout) == (0, "192.168.0.7\n")


def test_enforcing_is_not_for_a_file_that_is_refused(config: Path) -> None:
    config.write_text(MISTAKES["an unknown key"].format(config.parent))
    asked = neti("enforce", "-c", config)
    assert asked.exit_code == 2
    assert "using the last" not in asked.stderr


WITH_IDENTITY = GOOD + "identity: {{id: a, private: 10.9.8.7}}\n"


def test_who_only_looks_at_the_registry_needs_no_valid_file(config: Path) -> None:
    """By the last valid one, with a word about what is wrong."""
    folder = StateFolder(config.parent / "state")
    folder.keep_config(WITH_IDENTITY.format(config.parent).encode())
    with closing(open_registry(load(folder.good_config), "ec2")) as registry:
        held = registry.acquire("b", IPv4Network("192.168.0.0/18"))
    config.write_text(MISTAKES["an unknown key"].format(config.parent))
    listed = neti("lease", "list", "-c", config)
    assert (listed.exit_code, listed.stdout) == (0, f"{held!s:<15}  b\n1 lease\n")
    planned = neti("plan", "--full", "-c", config)
    assert planned.exit_code == 0
    assert planned.stdout.startswith("table inet neti {")
    for asked in (listed, planned):
        assert "using the last valid one" in asked.stderr


def _away(*_: object, **__: object) -> None:
    raise RegistryUnavailable("the registry does not answer")


def test_a_registry_that_is_away_leaves_what_is_known_here(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent knows the members' addresses, the disk what the kernel should hold."""
    config.write_text(WITH_IDENTITY.format(config.parent))
    monkeypatch.setattr("neti.registry.opening.open_registry", _away)
    monkeypatch.setattr("neti.oneshot.plan.open_registry", _away)
    refused = neti("lease", "list", "-c", config)
    assert refused.exit_code == 1
    assert "the registry does not answer" in refused.stderr
    members = [{"id": "b", "overlay": "192.168.0.9", "lost": False}]
    monkeypatch.setattr(client, "call", lambda *_, **__: members)
    listed = neti("lease", "list", "-c", config)
    assert (listed.exit_code, listed.stdout) == (3, "192.168.0.9      b\n1 lease\n")
    assert "this is what this host's agent knew last" in listed.stderr
    planned = neti("plan", "--full", "-c", config)
    assert planned.exit_code == 0
    assert "the members that this host knew last count" in planned.stderr
    assert "192.168.0.7" in planned.stdout  # its own address, as it is on disk
