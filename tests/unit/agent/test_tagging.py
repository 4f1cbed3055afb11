"""The agent's tags: wished for at once, set behind the loop's back, never in its way."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from types import MappingProxyType

import pytest
from click.testing import CliRunner
from tests.support.agents import World

from neti.agent import tagging
from neti.agent.tagging import Child, Tagger, Tags, for_instance
from neti.aws.access import open_places
from neti.cli import cli
from neti.errors import NetiError
from neti.model.settings import Settings, StaticIdentity

ONE, TWO = IPv4Address("192.168.0.1"), IPv4Address("192.168.0.2")
SECONDS = 60.0


class Script:
    """Answers each try with the next of its outcomes, and with the last for ever."""

    def __init__(self, *outcomes: str | None) -> None:
        self._outcomes = list(outcomes)
        self.tries: list[Tags] = []

    def __call__(self, tags: Tags) -> str | None:
        self.tries.append(tags)
        return self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagging, "_FIRST_PAUSE", 0.005)
    monkeypatch.setattr(tagging, "_LONGEST_PAUSE", 0.01)


@pytest.fixture(name="logged")
def _logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("neti")
    before = logger.propagate
    logger.propagate = True
    with caplog.at_level(logging.INFO, "neti"):
        yield caplog
    logger.propagate = before


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def _started(run: tagging.Run) -> Tagger:
    tagger = Tagger(run, jitter=lambda: 0.5)
    tagger.start()
    return tagger


def test_what_is_wanted_is_set_once() -> None:
    """However often the agent registers."""
    script = Script(None)
    tagger = _started(script)
    for _ in range(5):
        tagger.wanted(ONE, "1.0")
    _until(lambda: len(script.tries) == 1)
    tagger.wanted(ONE, "1.0")
    tagger.wanted(TWO, "1.0")
    _until(lambda: len(script.tries) == 2)
    tagger.close()
    assert script.tries == [Tags(ONE, "1.0"), Tags(TWO, "1.0")]


def test_it_is_tried_again_and_the_fault_is_logged_once(logged: pytest.LogCaptureFixture) -> None:
    """One warning for the same fault, however many tries; a word when it works."""
    script = Script("no permission", "no permission", "no permission", None)
    tagger = _started(script)
    tagger.wanted(ONE, "1.0")
    _until(lambda: "tagged" in logged.text)
    tagger.close()
    assert len(script.tries) == 4
    assert logged.text.count("tags_not_set") == 1
    assert tagger.problem is None


def test_a_newer_wish_ends_the_old_ones_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that changed is not tagged an hour late."""
    monkeypatch.setattr(tagging, "_FIRST_PAUSE", 3600.0)
    script = Script("throttled", None)
    tagger = _started(script)
    tagger.wanted(ONE, "1.0")
    _until(lambda: tagger.problem == "throttled")
    tagger.wanted(TWO, "1.0")
    _until(lambda: script.tries == [Tags(ONE, "1.0"), Tags(TWO, "1.0")])
    tagger.close()


def test_wishing_never_waits_and_closing_hardly() -> None:
    """A child that hangs is its own affair; closing ends it."""
    begun, stopped, ended = threading.Event(), threading.Event(), threading.Event()

    def run(_tags: Tags) -> str | None:
        begun.set()
        stopped.wait(SECONDS)
        ended.set()
        return "ended"

    tagger = Tagger(run, stop=stopped.set, jitter=lambda: 0.5)
    tagger.start()
    tagger.wanted(ONE, "1.0")
    assert begun.wait(SECONDS)
    tagger.wanted(TWO, "1.0")
    assert not ended.is_set()
    tagger.close(SECONDS)
    assert stopped.is_set()
    assert ended.is_set()


def _settings(path: Path, **more: object) -> Settings:
    return Settings(path=path, sites=MappingProxyType({}), **more)  # type: ignore[arg-type]  # fields by name


def test_only_an_instance_has_tags(tmp_path: Path) -> None:
    """A host in a data centre asks no AWS."""
    static = StaticIdentity(id="db-1", private=ONE)
    assert for_instance(_settings(tmp_path, identity=static), "db-1") is None
    assert for_instance(_settings(tmp_path, identity="auto"), "i-0a") is not None


def test_the_child_says_what_is_wrong(tmp_path: Path) -> None:
    """A configuration that became invalid meanwhile is named, as the command names it."""
    config = tmp_path / "neti.yml"
    config.write_text("overlay_subnet: [\n")
    said = Child(config, "i-0a", has_keys=True).run(Tags(ONE, "1.0"))
    assert said is not None
    assert "neti.yml" in said


def test_the_child_is_neti_and_nothing_that_lies_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module of that name in the agent's working directory is a stranger's."""
    strange = tmp_path / "neti"
    strange.mkdir()
    for name in ("__init__.py", "__main__.py"):
        (strange / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    said = Child(tmp_path / "neti.yml", "i-0a", has_keys=True).run(Tags(ONE, "1.0"))
    assert not (tmp_path / "ran").exists()
    assert said is not None
    assert "neti.yml" in said


def test_the_explanation_is_heard_through_other_words(tmp_path: Path) -> None:
    """Whatever else came to stderr before it; a traceback's last line is its explanation."""
    for words, heard in (
        ("warning: x\nneti: not allowed. This\nneti: {}\n", "not allowed. This {}"),
        ("Traceback:\n  File\nValueError: y\n", "ValueError: y"),
        ("", "neti aws tag ended with 3"),
    ):
        child = Child(tmp_path / "neti.yml", "i-0a", has_keys=True)
        program = f"import sys; sys.stderr.write({words!r}); sys.exit(3)"
        child._command = [sys.executable, "-c", program]
        assert child.run(Tags(ONE, "1.0")) == heard


def test_a_priority_that_may_not_be_lowered_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's unit forbids the call; the tags are set all the same."""
    asked: list[int] = []

    def refused(by: int) -> int:
        asked.append(by)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "nice", refused)
    words = ["aws", "tag", "--instance", "i-0a", "--overlay", "nonsense"]
    assert "not an IPv4 address" in CliRunner().invoke(cli, [*words, "--low-priority"]).output
    assert asked == [10]
    CliRunner().invoke(cli, words)
    assert asked == [10]


def test_a_stopped_child_is_not_begun(tmp_path: Path) -> None:
    """The agent may stop just when tags are wanted."""
    child = Child(tmp_path / "neti.yml", "i-0a", has_keys=True)
    child.stop()
    assert child.run(Tags(ONE, "1.0")) == "the agent stops"


def test_the_agent_wishes_for_its_tags_when_it_is_registered(tmp_path: Path) -> None:
    """And what is wrong with them is a note, which is no problem of the host's."""
    world = World(tmp_path)
    box = world.started(1)
    script = Script("no role")
    box.running.core.out.tagger = tagger = _started(script)
    box.host = replace(box.host, public=IPv4Address("198.51.100.200"))
    world.pass_time(70)
    overlay = box.running.core.members.overlay
    _until(lambda: bool(script.tries) and tagger.problem == "no role")
    status = box.status()
    tagger.close()
    assert script.tries[0] == Tags(overlay, status["version"])  # type: ignore[arg-type]  # a plain document
    assert "the instance's tags are not set: no role" in status["notes"]
    assert status["problems"] == []


def test_without_the_sdk_the_way_to_get_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each kind of environment; Debian's own package would not be seen by any of them."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(NetiError, match=r"pip install boto3.*pipx inject.*uv tool") as refused:
        open_places(regions=("eu-west-1",))
    assert "apt" not in str(refused.value)
