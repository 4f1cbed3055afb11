"""What a shell is told at a press of Tab."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from neti import durable
from neti.cli import cli
from neti.control.server import ControlServer

MEMBERS = [
    {"id": "db-1", "site": "vpc", "overlay": "192.168.0.1"},
    {"id": "db-2", "site": "ec2", "overlay": "192.168.0.2"},
    {"id": "web-1", "site": "vpc", "overlay": "192.168.0.3"},
    {"id": "$(reboot)", "site": "vpc", "overlay": "192.168.0.4"},
]
SLOW = ("pydantic", "yaml", "neti.config.schema", "kazoo", "sqlite3")
RUN = """\
import sys
from neti.cli import cli
try:
    cli(prog_name="neti")
finally:
    slow = [name for name in sys.argv[1].split() if name in sys.modules]
    print("imported", *slow, file=sys.stderr)
"""


class Shell:
    def __init__(self, folder: Path) -> None:
        self.config, self.state = folder / "neti.yml", folder / "state"
        self.state.mkdir(mode=0o700)
        self.config.write_text(f"table_files_path: {self.state}\n")
        self.server = ControlServer(self.state, lambda request: request.succeed(MEMBERS))
        self.server.start()
        self.server.open()
        self._there = True

    def end(self) -> None:
        if self._there:
            self._there = False
            self.server.close()

    def tab(self, *words: str, slow: str = "") -> list[str]:
        """What it offers in place of the last of these words, and that nothing is complained of."""
        line = ["neti", *words]
        environment = {
            **os.environ,
            "_NETI_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(line),
            "COMP_CWORD": str(len(words)),
            "NETI_CONFIG": str(self.config),
        }
        done = subprocess.run(
            [sys.executable, "-c", RUN, slow],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.stderr == "imported\n"
        return [one.removeprefix("plain,") for one in done.stdout.split()]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.end()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("lease release d", ["db-1", "db-2"]),
        ("lease release db-1 w", ["web-1"]),
        ("lease move db-1 w", ["web-1"]),
        ("key revoke web", ["web-1"]),
        ("gateway drain db-2", ["db-2"]),
        ("leftovers --to db-1", ["db-1"]),
        ("group add ops web", ["web-1"]),
        ("lookup 192.168.0.2", ["192.168.0.2"]),
        ("fleet --site v", ["vpc"]),
        ("release --site e", ["ec2"]),
        ("release $", []),
        ("group show d", ["db"]),
        ("group delete w", ["web"]),
    ],
)
def test_what_the_agent_knows_is_offered(shell: Shell, line: str, offered: list[str]) -> None:
    followed = {"groups": {"edition": 1, "lines": {"db": [], "web": []}}, "fleet": "f"}
    (shell.state / "groups.json").write_bytes(durable.line(followed))
    assert shell.tab(*line.split(), slow=" ".join(SLOW)) == offered


def test_what_is_not_there_is_no_error(shell: Shell) -> None:
    """No agent, no groups, no configuration, an answer that is nonsense."""
    assert shell.tab("group", "show", "d") == []
    shell.end()
    assert shell.tab("lease", "release", "d") == []
    shell.config.unlink()
    assert shell.tab("lease", "release", "d") == []
    assert shell.tab("lease", "rel") == ["release"]


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(kind: str) -> None:
    script = CliRunner().invoke(cli, ["completion", kind], prog_name="neti").stdout
    assert f"_NETI_COMPLETE={kind}_complete" in script
    assert "neti" in script.splitlines()[-1] or "neti" in script.splitlines()[0]
