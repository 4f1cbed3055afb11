"""How commands end: by a sentence, whatever happens, and after Ctrl-C by what has become of it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from neti import __main__ as program
from neti.cli import cli
from neti.control import client
from neti.errors import ConfigError
from neti.monitoring.status import Expired, Registry, Running, Status

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


def answers(monkeypatch: pytest.MonkeyPatch, *one_after_another: Any) -> list[str]:
    """What the agent says; an exception is raised. The commands that it was asked."""
    left, asked = list(one_after_another), []

    def call(_folder: Path, command: str, **_: object) -> Any:
        asked.append(command)
        answer = left.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(client, "call", call)
    return asked


SHADOW = Status(version="1", id="a", site="ec2", private="10.0.0.1", registry=Registry(fresh=True))
ENFORCED = replace(SHADOW, stage="enforced").document()
EXPIRED = replace(SHADOW, trial=Expired(why=("nobody confirmed it",))).document()


def trial(left: float) -> dict[str, Any]:
    return replace(SHADOW, stage="trial", trial=Running(seconds_left=left)).document()


# --- Ctrl-C ---


@pytest.mark.parametrize("words", [[], ["--wait-for-confirm"], ["--json"]])
def test_ctrl_c_in_enforce_says_that_the_trial_goes_on(
    words: list[str], config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, {"stage": "trial", "seconds": 300}, KeyboardInterrupt())
    done = CliRunner().invoke(cli, ["enforce", *words, "-c", config])
    assert done.exit_code == 130
    assert "the trial goes on. At " in done.stderr
    assert "'neti relax' ends it at once" in done.stderr
    assert "Aborted" not in done.output


@pytest.mark.parametrize(
    ("words", "then"),
    [
        ("enforce", "→ 'neti relax' ends a trial at once"),
        ("confirm", "→ neti status"),
        ("release --all", "→ neti status"),
        ("relax", "→ run 'neti relax' again"),
        ("down", "→ run 'neti down' again"),
        ("up", "→ run 'neti up' again"),
        ("leave", "→ run 'neti leave' again"),
    ],
)
def test_ctrl_c_in_a_command_that_changes_something(
    words: str, then: str, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neti.oneshot.conntrack_max.raise_limit", lambda _settings: None)
    asked = answers(monkeypatch, KeyboardInterrupt())
    done = CliRunner().invoke(cli, [*words.split(), "-c", config])
    assert done.exit_code == 130
    assert done.stderr.startswith("neti: stopped by Ctrl-C: ")
    assert then in done.stderr
    assert len(asked) == 1


@pytest.mark.parametrize("words", ["status", "verify", "metrics", "preview"])
def test_ctrl_c_in_a_command_that_looks(
    words: str, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, KeyboardInterrupt())
    done = CliRunner().invoke(cli, [*words.split(), "-c", config])
    assert (done.exit_code, done.stderr) == (130, "neti: stopped by Ctrl-C\n")


# --- a trial is waited for ---


@pytest.mark.parametrize("words", [[], ["--wait-for-confirm"]])
def test_enforce_waits_and_its_exit_code_says_what_came_of_it(
    words: list[str], config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = {"stage": "trial", "seconds": 300}
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    asked = answers(monkeypatch, begun, trial(2), trial(1), ENFORCED)
    done = CliRunner().invoke(cli, ["enforce", *words, "-c", config])
    assert (done.exit_code, asked) == (0, ["enforce", "status", "status", "status"])
    assert "→ 'neti relax' goes back to shadow" in done.stdout
    answers(monkeypatch, begun, trial(1), EXPIRED)
    done = CliRunner().invoke(cli, ["enforce", *words, "-c", config])
    assert done.exit_code == 1
    assert "NOT confirmed: nobody confirmed it" in done.stdout


def test_a_trial_whose_agent_ends_is_not_called_confirmed(
    config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = {"stage": "trial", "seconds": 300}
    answers(monkeypatch, begun, client.AgentUnreachable("no agent is running"))
    done = CliRunner().invoke(cli, ["enforce", "-c", config])
    assert done.exit_code == 1
    assert "the kernel goes back to shadow by itself" in done.stderr


# --- no traceback ---


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ConfigError("neti.yml: bad"), 2, "neti: neti.yml: bad\n"),
        (OSError(28, "No space left on device", "/x/y"), 1, "/x/y: No space left on device"),
        (PermissionError(13, "Permission denied", "/x"), 1, "/x: Permission denied"),
        (ZeroDivisionError("by\nzero"), 1, "ZeroDivisionError: by zero. This is a bug in Neti"),
        (MemoryError(), 1, "out of memory"),
        (click.Abort(), 1, "nothing was changed"),
        (EOFError(), 1, "nothing was changed"),
        (RecursionError("too deep\x1b[2J"), 1, "\\u001b[2J"),
    ],
)
def test_whatever_goes_wrong_is_a_sentence(
    error: BaseException, code: int, sentence: str, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, *[error] * 2)
    done = CliRunner().invoke(cli, ["metrics", "-c", config])
    assert done.exit_code == code
    assert sentence in done.stderr
    assert "Traceback" not in done.output
    debugged = CliRunner().invoke(cli, ["--debug", "metrics", "-c", config])
    assert "Traceback" in debugged.stderr
    assert debugged.exit_code == code


def test_the_environment_asks_for_a_traceback_too(
    config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value, wanted in (("1", True), ("yes", True), ("0", False), ("", False)):
        answers(monkeypatch, ZeroDivisionError())
        monkeypatch.setenv("NETI_DEBUG", value)
        done = CliRunner().invoke(cli, ["metrics", "-c", config])
        assert ("Traceback" in done.stderr) == wanted


def test_a_service_leaves_its_traceback_in_the_journal(
    config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("neti.agent.main.run", breaks)
    monkeypatch.setattr("neti.agent.hangup.heed", lambda: None)
    assert "Traceback" in CliRunner().invoke(cli, ["agent", "-c", config]).stderr


def test_a_terminal_that_knows_few_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    line = [sys.executable, "-m", "neti", "status", "-c", str(tmp_path / "é")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_ctrl_c_while_python_still_imports(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On a slow machine that takes a second, and a traceback tells an operator nothing."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("neti.cli.main", interrupted)
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 130
    assert capfd.readouterr().err == "neti: stopped by Ctrl-C\n"


@pytest.mark.parametrize("requires", [False, True])
def test_what_relax_ends_is_said_when_it_is_confirmed(
    requires: bool, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, {"stage": "enforced", "requires": requires})
    done = CliRunner().invoke(cli, ["confirm", "-c", config])
    assert done.exit_code == 0, done.output
    hint = done.stdout.splitlines()[-1]
    assert hint.startswith("→ 'neti relax' goes back to shadow: nothing is dropped")
    assert ("encryption is not required any more" in hint) == requires


def test_the_kernel_knows_the_program_by_its_name_however_it_was_started() -> None:
    """A package starts ``python3 -m neti``; the agent tells who changed its rules by this name."""
    show = "import atexit; atexit.register(lambda: print(open('/proc/self/comm').read()))"
    run = "import sys; sys.argv = ['neti', '--version']; from neti.__main__ import main; main()"
    words = [sys.executable, "-c", f"{show}; {run}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split()[-1] == "neti"
