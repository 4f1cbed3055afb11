"""Commands whose agent does not answer: a word, an end, and which of the two it is."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from neti.cli import asking, cli
from neti.cli.status import _problems, is_well
from neti.control import client
from neti.control.client import AgentSilent, AgentUnreachable
from neti.control.protocol import SOCKET_NAME
from neti.dataplane.way_out import Held
from neti.identity.machine import fingerprint
from neti.model.problems import problem
from neti.monitoring.status import Expired, Registry, Status
from neti.stage.stages import Record
from neti.state.folder import StateFolder
from neti.state.records import Self

CONFIG = """
registry: embedded:{folder}/registry.db
site: ec2
sites: {{ec2: {{private: [10.0.0.0/16]}}}}
identity: {{id: a, private: 10.0.0.1}}
ssh_whitelist: [10.0.0.0/8]
table_files_path: {folder}/state
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "neti.yml").write_text(CONFIG.format(folder=tmp_path))
    return str(tmp_path / "neti.yml")


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[Path]:
    """The folder of an agent that listens and never answers."""
    folder = tmp_path / "state"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(folder / SOCKET_NAME))
        listening.listen(16)
        yield folder


def test_whoever_waits_is_told_for_what_and_for_how_long(
    hung: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(asking, "_FIRST_WORD", 0.01)
    with pytest.raises(
        AgentSilent, match=rf"the agent hangs \(process {os.getpid()}\): it did not answer"
    ):
        asking.ask(hung, "status", then="the cook goes home", within=0.5)
    assert capsys.readouterr().err.count("the cook goes home") == 1


def test_an_agent_that_turns_a_command_away_does_not_hang(tmp_path: Path) -> None:
    """It has no descriptor or no place left for one: nobody should restart it for that."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / SOCKET_NAME))
        listening.listen(1)

        def turn_away() -> None:
            listening.accept()[0].close()

        busy = threading.Thread(target=turn_away)
        busy.start()
        with pytest.raises(AgentSilent, match="no room for another command") as told:
            client.call(tmp_path, "status")
        busy.join()
    assert "→ try again" in str(told.value)
    assert "restart" not in str(told.value)


def test_hangs_and_is_not_running_are_different_sentences(hung: Path, tmp_path: Path) -> None:
    with pytest.raises(AgentSilent) as silent:
        client.call(hung, "status", within=0.05)
    with pytest.raises(AgentUnreachable) as absent:
        client.call(tmp_path, "status")
    assert (silent.value.is_called, absent.value.is_called) == ("hangs", "not running")
    assert "hangs" in str(silent.value)
    assert "no agent is running" in str(absent.value)
    for told in (silent, absent):
        assert "→ systemctl" in str(told.value)


@pytest.mark.parametrize(
    "words",
    ["status", "confirm", "release --all", "leave", "verify", "metrics", "enforce", "check"],
)
def test_each_command_that_asks_gives_up_in_ten_seconds(
    words: str, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it asks; the state is an empty folder's."""
    waited = []

    def silent(_folder: Path, _command: str, *, within: float, **_: object) -> None:
        waited.append(within)
        raise AgentSilent("the agent hangs: it did not answer in 10 s\n→ systemctl restart neti")

    monkeypatch.setattr(client, "call", silent)
    done = CliRunner().invoke(cli, [*words.split(), "-c", config])
    assert done.exit_code in (1, 2)
    assert "the agent hangs" in done.output
    assert waited[0] == 10
    assert sum(waited) < 13


def test_status_says_what_disk_and_kernel_know(
    hung: Path, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> None:
        raise AgentSilent("the agent hangs")

    monkeypatch.setattr(client, "call", silent)
    monkeypatch.setattr("neti.dataplane.way_out.held", lambda: Held(drops=True))
    folder = StateFolder(hung)
    folder.load(fingerprint())
    folder.save_self(Self(overlay="192.168.7.9"))
    folder.save_record(Record(wished=True, confirmed=True))
    folder.set_relaxed(True)
    done = CliRunner().invoke(cli, ["status", "-c", config])
    assert done.exit_code == 1
    assert "overlay   192.168.7.9" in done.stdout
    assert "stage     enforced, as last written to disk, but 'neti relax' was run" in done.stdout
    assert "kernel    what no rule lets in is dropped, permanently" in done.stdout
    told = json.loads(CliRunner().invoke(cli, ["status", "--json", "-c", config]).stdout)
    assert told["agent"] == "hangs"
    assert told["on_disk"]["stage"] == "enforced"
    assert told["in_kernel"] == {"table": True, "drops": True, "requires": False}
    assert "stage" not in told  # nobody takes it for the agent's word


def test_status_where_no_agent_has_ever_run(config: str) -> None:
    done = CliRunner().invoke(cli, ["status", "-c", config])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no agent is running" in done.stderr


def test_what_a_status_without_codes_says() -> None:
    """Of an agent before problems had codes."""
    seen = Status(
        version="0", id="a", site="ec2", private="10.0.0.1", registry=Registry(fresh=True)
    )
    assert is_well(replace(seen, registered=True))
    assert not is_well(seen)
    assert not is_well(replace(seen, registered=True, down=True))
    assert not is_well(replace(seen, registered=True, trial=Expired()))


def test_the_same_of_several_files_is_one_line() -> None:
    """A full disk says so once, and which files are behind."""
    told = [
        problem("disk", "no space left", "stage.json"),
        problem("disk", "no space left", "session.json"),
        problem("route", "no interface"),
        problem("lost", "they are listed above"),
    ]
    assert _problems(told) == [
        "problem   no space left (stage.json, session.json)",
        "problem   no interface",
    ]


def test_who_waits_for_a_registry_hears_what_is_in_the_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(asking, "_FIRST_WORD", 0.0)
    said = threading.Event()

    def hear(words: str, err: bool) -> None:
        print(words)
        said.set()

    monkeypatch.setattr(asking, "say", hear)
    refused = "ZooKeeper at 10.0.0.1:2281: Connection refused"
    with asking.waiting(120, "this command gives up", who="the registry", why=lambda: refused):
        assert said.wait(10)
    assert f"the registry has not answered for 0 s ({refused}); after" in capsys.readouterr().out
