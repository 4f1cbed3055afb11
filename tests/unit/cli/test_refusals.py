"""What a command says to somebody who may not do what it does."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from kazoo.exceptions import ConnectionDropped

from neti.agent.verify import explained
from neti.cli import cli
from neti.control import client
from neti.control.client import AgentForbidden
from neti.identity.machine import fingerprint
from neti.registry import Session
from neti.registry.zookeeper.watch import _in_words
from neti.state.folder import StateFolder
from neti.state.records import Self
from neti.words import counted, listed, some

CONFIG = """
registry: embedded:/var/lib/neti/registry.db
site: ec2
sites: {ec2: {private: [10.0.0.0/16]}}
identity: {id: a, private: 10.0.0.1}
ssh_whitelist: [10.0.0.0/8]
"""


@pytest.mark.parametrize("command", ["status", "down", "up", "leave"])
def test_who_may_not_ask_the_agent_is_told_to_be_root(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is tried beside the agent, whose files may not be read either."""

    def refused(*_: object, **__: object) -> None:
        raise AgentForbidden("/run/agent.sock: permission denied: run this as root")

    monkeypatch.setattr(client, "call", refused)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    state = tmp_path / "state"
    (tmp_path / "neti.yml").write_text(f"{CONFIG}table_files_path: {state}\n")
    done = CliRunner().invoke(cli, [command, "-c", str(tmp_path / "neti.yml")])
    assert done.exit_code == 1
    assert "run this as root" in done.output
    assert not state.exists()


def test_a_connection_that_ended_without_a_number_is_told_in_words() -> None:
    def dropped(cause: BaseException) -> str:
        try:
            try:
                raise cause
            except OSError as error:
                raise ConnectionDropped(f"socket connection error: {error.strerror}")  # noqa: B904  # as kazoo does
        except ConnectionDropped as error:
            return _in_words(error)

    assert dropped(TimeoutError("timed out")) == "no answer in time"
    assert dropped(OSError(113, "No route to host")) == "No route to host"
    assert dropped(OSError("closed early")) == "closed early"
    assert "the server ended" in _in_words(ConnectionDropped("socket connection broken"))


@pytest.mark.parametrize("written", ["abc", "4", "86401", "1.5"])
def test_a_trial_of_no_sensible_length(written: str) -> None:
    done = CliRunner().invoke(cli, ["enforce", "--trial", written])
    assert done.exit_code == 2
    assert f"'{written}': expected whole seconds, 5 to 86400" in done.output


def test_verify_says_what_went_wrong_and_no_number() -> None:
    assert explained(OSError(113, "No route to host"), 7077) == "No route to host"
    assert explained(ValueError("no JSON"), 7077) == "no JSON"


def test_numbers_and_names_in_words() -> None:
    assert [counted(n, "lease") for n in (0, 1, 2)] == ["0 leases", "1 lease", "2 leases"]
    assert counted(1, "entry is", "entries are") == "1 entry is"
    assert some(["b", "a"]) == "a, b"
    assert some([str(n) for n in range(10, 35)], 2) == "10, 11 and 23 more"
    assert listed("abc", 3, " ", 2) == ["a", "b", " and 1 more"]
    assert listed("abc", 3, " ", 3) == ["a", "b", "c"]


def test_an_event_is_no_bare_line_where_no_log_is_configured() -> None:
    """A command such as restore has no log: what it has to say it says itself."""
    code = "from neti import log; log.error('conntrack_max', what='is not set')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == done.stdout == ""


@pytest.mark.parametrize(
    ("typed", "meant"), [("stauts", "'status'"), ("confrm", "'confirm'"), ("xyzzy", None)]
)
def test_a_command_that_is_misspelt(typed: str, meant: str | None) -> None:
    done = CliRunner().invoke(cli, [typed])
    assert done.exit_code == 2
    assert (f"Did you mean {meant}?" in done.stderr) is (meant is not None)
    assert ("Did you mean" in done.stderr) is (meant is not None)


def test_a_host_that_has_left_is_not_told_to_start_again(tmp_path: Path) -> None:
    """Whoever follows the next step must know that it brings a retired host back."""
    config, state = tmp_path / "neti.yml", tmp_path / "state"
    config.write_text(f"{CONFIG}table_files_path: {state}\n")
    folder = StateFolder(state)
    folder.load(fingerprint())
    folder.save_self(Self(overlay="192.168.3.7", entry="1.0a00000100000000c0a80307.0.ec2.a"))
    said = CliRunner().invoke(cli, ["status", "-c", str(config)]).stderr
    assert "this host has left the fleet" in said
    assert "→ 'systemctl start neti' brings it back" in said
    folder.save_session(Session(7, b"secret"))
    assert "no agent is running" in CliRunner().invoke(cli, ["status", "-c", str(config)]).stderr


def test_a_file_that_cannot_be_read_does_not_say_where_the_agent_is(tmp_path: Path) -> None:
    """It may run well, with its state elsewhere: that none runs is not known."""
    said = CliRunner().invoke(cli, ["reload", "-c", str(tmp_path / "gone.yml")]).stderr
    assert "gone.yml cannot be read, so it is not known where its agent is" in said
    assert "no agent is running" not in said
