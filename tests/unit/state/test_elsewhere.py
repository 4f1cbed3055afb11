"""Commands find a state folder that is not the usual one without a readable configuration."""

import os
from pathlib import Path

import pytest

from neti.model.settings import DEFAULT_STATE
from neti.state import elsewhere
from neti.state.elsewhere import NOTE, keep_note, noted
from neti.state.folder import StateFolder
from neti.state.last_good import load_or_last_good
from neti.state.location import is_guessed, state_folder


@pytest.fixture(name="usual")
def _usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    usual = tmp_path / "usual"
    usual.mkdir(mode=0o751)
    monkeypatch.setattr("neti.state.location.DEFAULT_STATE", usual)
    return usual


@pytest.fixture(name="config")
def _config(tmp_path: Path, usual: Path) -> Path:
    """An agent by this file has its state in ``there``."""
    StateFolder(tmp_path / "there").keep_config(
        b"site: ec2\nssh_port: 2222\nregistry: embedded:/r\n"
    )
    config = tmp_path / "neti.yml"
    keep_note(usual, config, tmp_path / "there", {"STATE_DIRECTORY": str(usual)})
    return config


@pytest.mark.parametrize("text", [None, "", "site: [\n", "ssh_prot: 22\n"])
def test_a_missing_or_broken_file_leaves_the_folder_that_the_agent_noted(
    config: Path, text: str | None
) -> None:
    if text is not None:
        config.write_text(text)
    assert state_folder(config) == config.parent / "there"
    assert not is_guessed(config)
    settings, refused = load_or_last_good(config, Path("/nonexistent"))
    assert (settings.ssh_port, settings.table_files_path) == (2222, config.parent / "there")
    assert refused is not None


def test_what_the_file_itself_says_comes_first(config: Path) -> None:
    config.write_text("table_files_path: /srv/neti\nssh_prot: 22\n")
    assert state_folder(config) == Path("/srv/neti")
    config.write_text("site: ec2\nregistry: embedded:/r\n")
    assert state_folder(config) == DEFAULT_STATE


def test_another_configuration_is_not_meant(config: Path, usual: Path) -> None:
    assert state_folder(config.with_name("other.yml")) == usual


def test_an_agent_that_moves_back_takes_the_note_away(config: Path, usual: Path) -> None:
    keep_note(usual, config, usual, {"STATE_DIRECTORY": f"/x:{usual}"})
    assert not (usual / NOTE).exists()
    assert state_folder(config) == usual


def test_agents_of_a_lab_leave_no_note(tmp_path: Path, usual: Path) -> None:
    keep_note(usual, tmp_path / "neti.yml", tmp_path / "there", {})
    assert list(usual.iterdir()) == []


def test_a_note_for_everybody(config: Path, usual: Path) -> None:
    assert (usual / NOTE).stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="makes another user's folder")
def test_root_is_not_led_where_another_could_put_a_link(config: Path, usual: Path) -> None:
    there = config.parent / "there"
    os.chown(there, 12345, 12345)
    assert noted(usual, config) is None
    os.chown(usual, 12345, 12345)
    assert noted(usual, config) == there
    there.chmod(0o777)
    assert noted(usual, config) is None
    there.chmod(0o750)
    os.chown(there.parent, 12345, 12345)
    assert noted(usual, config) is None
    os.chown(there.parent, 0, 0)
    there.parent.chmod(0o1777)
    assert noted(usual, config) is None
    there.parent.chmod(0o700)
    there.rename(there.with_name("real"))
    there.symlink_to("real")
    assert noted(usual, config) is None


@pytest.mark.parametrize("content", [b"", b"rubbish\n", b"00000000 {}\n"])
def test_a_torn_note_says_nothing(config: Path, usual: Path, content: bytes) -> None:
    (usual / NOTE).write_bytes(content)
    assert elsewhere.noted(usual, config) is None
    assert state_folder(config) == usual
