"""``neti relax`` and ``neti down`` say what is so on this host, and a next step that helps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from neti.cli import cli
from neti.control import client
from neti.control.client import AgentUnreachable
from neti.dataplane import way_out
from neti.dataplane.way_out import Held
from neti.errors import DataplaneError
from neti.oneshot.down import is_down
from neti.state.folder import StateFolder

Answers = Callable[[Any], None]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """What the agent answers to everything; an exception is raised."""

    def say(answer: Any) -> None:
        def call(*_: object, **__: object) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(client, "call", call)

    return say


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What this kernel holds of ours."""

    def holds(held: Held | None, *, mark: bool = False) -> None:
        monkeypatch.setattr(way_out, "held", lambda: held)
        monkeypatch.setattr(way_out, "has_down_mark", lambda: mark)
        monkeypatch.setattr(way_out, "disarm", lambda: None)

    holds(Held())
    return holds


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "neti.yml"
    path.write_text(f"table_files_path: {tmp_path / 'state'}\n")
    (tmp_path / "state").mkdir()
    return path


def relax(config: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["relax", *words, "-c", str(config)])


def test_in_shadow_what_would_be_refused_is_recorded(
    answers: Answers, kernel: Callable[..., None], config: Path
) -> None:
    answers({"stage": "shadow", "reject_all": True})
    done = relax(config)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "shadow: nothing is kept out on this host now, and what would be is recorded" in (
        done.stdout
    )


def test_members_that_require_encryption_go_on_refusing(
    config: Path, answers: Answers, kernel: Callable[..., None]
) -> None:
    answers({"stage": "shadow", "reject_all": False, "requires": True})
    said = relax(config).stdout
    assert "Members that require it still refuse what this host sends in the clear." in said
    answers({"stage": "shadow", "reject_all": False, "requires": False})
    assert "Members that require it" not in relax(config).stdout


@pytest.mark.parametrize(("held", "mark"), [(None, False), (Held(), True)])
def test_while_neti_is_down_nothing_is_recorded(
    held: Held | None,
    mark: bool,
    answers: Answers,
    kernel: Callable[..., None],
    config: Path,
) -> None:
    """Nor does 'neti enforce' help then. The word may be on disk, or in the kernel alone."""
    answers({"stage": "shadow", "reject_all": True})
    kernel(held, mark=mark)
    if not mark:
        StateFolder(config.parent / "state").set_down(True)
    said = relax(config).stdout
    assert "nothing is recorded" in said
    assert "→ 'neti up'" in said
    assert "enforce" not in said


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"reject_all": False}, "on trial, although the configuration says reject_all: false."),
        ({"reject_all": True}, "on trial.\n"),
        (AgentUnreachable("no agent"), "on trial, whatever the configuration says of reject_all."),
    ],
)
def test_what_happens_when_the_time_is_over(
    answer: Any, said: str, answers: Answers, kernel: Callable[..., None], config: Path
) -> None:
    answers(answer)
    assert said in relax(config, "--for", "2h").stdout


def test_who_is_not_root_is_told_to_be(
    answers: Answers,
    kernel: Callable[..., None],
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Deleting the table by hand would be undone by an agent that runs."""

    def refused() -> None:
        raise DataplaneError("not permitted")

    answers(AgentUnreachable("no agent"))
    monkeypatch.setattr(way_out, "disarm", refused)
    assert "→ stop the agent" in relax(config).stderr
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    done = relax(config)
    assert done.exit_code == 1
    assert "→ run this as root" in done.stderr
    assert "nft delete" not in done.stderr


def test_a_configuration_that_is_gone_is_said(
    answers: Answers, kernel: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent may run, with its state elsewhere: that it does not is not known."""
    monkeypatch.setattr("neti.state.location.DEFAULT_STATE", tmp_path / "nowhere")
    answers(AgentUnreachable("no agent"))
    done = relax(tmp_path / "gone.yml")
    assert done.exit_code == 1
    assert "no agent answers in" in done.stderr
    assert "the agent is not running" not in done.stderr
    assert "gone.yml cannot be read: run 'neti relax -c FILE'" in done.stderr


def test_the_mark_in_the_kernel_counts_as_down(kernel: Callable[..., None], tmp_path: Path) -> None:
    """A disk that took no word must not hide it from 'neti check', status and plan."""
    assert not is_down(tmp_path)
    kernel(Held(), mark=True)
    assert is_down(tmp_path)
