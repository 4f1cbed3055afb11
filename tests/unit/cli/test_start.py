"""What a command imports before it answers: a script may ask each host every few seconds."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import neti
from neti.control.server import ControlServer
from neti.monitoring.status import Registry, Status
from neti.state.location import GOOD_CONFIG, in_force

CONFIG = """\
registry: embedded:{folder}/registry.db
table_files_path: {folder}/state
site: ec2
identity: {{id: a, private: 10.0.0.5}}
"""
# What reads and judges a configuration, and what opens a registry.
SLOW = ("pydantic", "yaml", "neti.config.schema", "neti.registry", "kazoo", "sqlite3")
# Runs a command, then says which of these were imported.
RUN = """\
import sys
from neti.cli import cli
try:
    cli(sys.argv[2:], prog_name="neti")
except SystemExit as end:
    imported = [name for name in sys.argv[1].split() if name in sys.modules]
    print("imported", *imported, file=sys.stderr)
    raise
"""


class Agent:
    """One that answers ``status``, and has the file in force."""

    def __init__(self, folder: Path) -> None:
        self.config, self.state = folder / "neti.yml", folder / "state"
        self.config.write_text(CONFIG.format(folder=folder))
        self.state.mkdir(mode=0o700)
        self.good = self.state / GOOD_CONFIG
        self.good.write_bytes(self.config.read_bytes())
        self.version = neti.__version__
        self.server = ControlServer(
            self.state,
            lambda request: (
                request.fail("not now")
                if self.refuses
                else request.succeed(self._status().document())
            ),
        )
        self.refuses = False
        self.server.start()
        self.server.open()
        self._there = True

    def end(self) -> None:
        if self._there:
            self._there = False
            self.server.close()

    def _status(self) -> Status:
        return Status(
            version=self.version,
            id="a",
            site="ec2",
            private="10.0.0.5",
            overlay="192.168.0.7",
            registered=True,
            registry=Registry(fresh=True),
        )

    def asked(self, *words: str) -> tuple[int, str, set[str]]:
        """The exit code, what was said, and which of the slow ones were imported."""
        done = subprocess.run(
            [sys.executable, "-c", RUN, " ".join(SLOW), *words, "-c", str(self.config)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={**os.environ, "NO_COLOR": "1"},
        )
        told, _, imported = done.stderr.rpartition("imported")
        return done.returncode, done.stdout + told, set(imported.split())


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    made = Agent(tmp_path)
    yield made
    made.end()


@pytest.mark.parametrize("command", ["status", "overlay-ip", "check"])
def test_where_the_agent_answers_nothing_reads_the_configuration(
    agent: Agent, command: str
) -> None:
    """The file is the one that the agent has in force, so it is valid, and leads where it leads."""
    code, said, imported = agent.asked(command)
    if command == "check":  # it finds no kernel table of that agent, or may not look for one
        assert imported == {"neti.registry"}  # words of it stand in the state folder
        assert said.startswith("NETI ")
    else:
        assert imported == set(), said
        assert (code, "192.168.0.7" in said) == (0, True), said


@pytest.mark.parametrize("command", ["status", "check"])
@pytest.mark.parametrize("text", ["reject_al: true\n", "reject_all: true\n"])
def test_another_file_is_judged(agent: Agent, command: str, text: str) -> None:
    """By the schema, whatever the agent says."""
    agent.config.write_text(agent.config.read_text() + text)
    code, said, imported = agent.asked(command)
    assert {"pydantic", "yaml"} <= imported
    assert ("is not valid" in said or "is invalid" in said) is ("al:" in text), said
    if "al:" in text:
        assert code == 2


@pytest.mark.parametrize("command", ["status", "check"])
def test_an_agent_of_another_version_does_not_vouch_for_the_file(
    agent: Agent, command: str
) -> None:
    """What it accepted may be refused by the version that starts next."""
    agent.version = "0.0.1"
    agent.config.write_text(agent.config.read_text() + "reject_al: true\n")
    agent.good.write_bytes(agent.config.read_bytes())
    code, said, imported = agent.asked(command)
    assert "pydantic" in imported
    assert code == 2, said


@pytest.mark.parametrize("command", ["status", "check"])
def test_neither_does_one_that_is_not_there(agent: Agent, command: str) -> None:
    agent.end()
    agent.config.write_text(agent.config.read_text() + "reject_al: true\n")
    agent.good.write_bytes(agent.config.read_bytes())
    code, said, _ = agent.asked(command)
    assert "reject_al" in said
    assert code != 0


@pytest.mark.parametrize("command", ["status", "check"])
def test_a_folder_that_everyone_can_write_to_vouches_for_nothing(
    agent: Agent, command: str
) -> None:
    """Whoever writes there may have put copy and socket in it."""
    agent.state.chmod(0o777)
    code, said, imported = agent.asked(command)
    assert "pydantic" in imported
    assert code == 2, said
    assert ("everyone can write to" if command == "status" else "configuration is invalid") in said


def test_a_copy_of_another_user_than_the_folders_vouches_for_nothing(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert in_force(agent.config) == agent.state
    real = Path.lstat

    def of_another(path: Path) -> os.stat_result:
        held = list(real(path))
        held[4] = os.getuid() + 1
        return os.stat_result(held)

    monkeypatch.setattr(Path, "lstat", of_another)
    assert in_force(agent.config) is None


@pytest.mark.parametrize(
    "words",
    ["metrics", "explain a here 22", "leftovers", "preview", "preview --suggest", "key rotate"],
)
def test_whoever_asks_the_agent_alone_needs_no_schema(agent: Agent, words: str) -> None:
    """What it would answer does not matter here."""
    agent.refuses = True
    code, said, imported = agent.asked(*words.split())
    assert imported <= {"neti.registry"}  # words of it, no library
    assert (code, said) == (1, "neti: not now\n")
