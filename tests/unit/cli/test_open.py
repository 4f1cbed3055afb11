"""``neti open`` as it is typed: what is refused before anybody is asked, and what is told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from neti.cli import cli
from neti.control import client
from neti.monitoring.opened import Answer, answer_of, duration
from neti.oneshot import openings_alone

OPENED = {
    "port": "5432/tcp",
    "source": "203.0.113.9/32",
    "member": "",
    "until": 1_800_007_200.0,
    "seconds_left": 7100.0,
    "at": 1_800_000_000.0,
    "by": "uid 0",
}
ANSWER: dict[str, Any] = {"stage": "enforced", "opened": [OPENED], "notes": [], "unsaved": None}
Open = Callable[..., Result]


@pytest.fixture
def said() -> list[tuple[str, dict[str, Any]]]:
    return []


@pytest.fixture
def neti(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, dict[str, Any]]]
) -> Open:
    config = tmp_path / "neti.yml"
    config.write_text(
        f"registry: embedded:{tmp_path}/registry.db\nsite: ec2\n"
        f"identity: {{id: a, private: 10.0.0.5}}\ntable_files_path: {tmp_path}\n"
    )

    def run(words: str, **answer: Any) -> Result:
        def call(_: Path, command: str, *, within: float = 0, **arguments: Any) -> Any:
            said.append((command, {k: v for k, v in arguments.items() if v is not None}))
            return {**ANSWER, **answer}

        monkeypatch.setattr(client, "call", call)
        return CliRunner().invoke(cli, ["open", *words.split(), "-c", str(config)])

    return run


@pytest.mark.parametrize(
    ("words", "first", "last", "proto"),
    [
        ("5432", 5432, 5432, "tcp"),
        ("53/udp", 53, 53, "udp"),
        ("8000-8010/tcp", 8000, 8010, "tcp"),
    ],
)
def test_a_port_is_written_as_in_the_file(
    neti: Open, said: list[Any], words: str, first: int, last: int, proto: str
) -> None:
    done = neti(f"{words} --from 203.0.113.9 --from web-3 --for 2h")
    assert done.exit_code == 0
    assert "open: 5432/tcp to 203.0.113.9 until 2027-01-15 10:00:00 UTC" in done.stdout
    port = {"first": first, "last": last, "proto": proto}
    assert said == [("open", {"sources": ["203.0.113.9", "web-3"], "seconds": 7200, **port})]
    neti(f"{words} --close")
    neti("--close --from web-3")
    assert said[1:] == [("close", port), ("close", {"sources": ["web-3"]})]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("0 --from a --for 2h", "expected a port"),
        ("65536 --from a --for 2h", "expected a port"),
        ("9-8 --from a --for 2h", "expected a port"),
        ("80/sctp --from a --for 2h", "expected a port"),
        ("80 --from a --for 30s", "expected minutes"),
        ("80 --from a --for 8d", "expected minutes"),
        ("80 --from a --for 0m", "expected minutes"),
        ("80 --from a", "--for is missing"),
        ("80 --for 2h", "--from is missing"),
        ("80 --close --for 2h", "--close ends it now"),
        ("--from a --for 2h", "a PORT, --from and --for"),
        ("80 --list", "a PORT, --from and --for"),
    ],
)
def test_what_is_not_meant_so_is_asked_of_nobody(
    neti: Open, said: list[Any], words: str, why: str
) -> None:
    done = neti(words)
    assert done.exit_code == 2
    assert why in done.stderr
    assert said == []


def test_it_shows_what_is_open(neti: Open) -> None:
    of_member = {**OPENED, "member": "web-3", "source": "2001:db8::9/128", "by": ""}
    done = neti("", opened=[OPENED, of_member, {**OPENED, "source": "198.51.100.0/24"}])
    times = "(since 2027-01-15 08:00:00 UTC, until 2027-01-15 10:00:00 UTC)"
    assert done.stdout.splitlines() == [
        f"5432/tcp to 203.0.113.9: 1 h 58 min left, by uid 0 {times}",
        f"5432/tcp to web-3 (2001:db8::9): 1 h 58 min left {times}",
        f"5432/tcp to 198.51.100.0/24: 1 h 58 min left, by uid 0 {times}",
        "stage: enforced",
    ]
    assert neti("--list", opened=[]).stdout == "nothing is open for a time\n"
    assert "so nobody is kept out now" in neti("", stage="shadow").stdout
    assert json.loads(neti("--json").stdout) == ANSWER


def test_what_is_not_on_disk_is_said_and_fails(neti: Open) -> None:
    done = neti("80 --from 203.0.113.9 --for 2h", unsaved="no space", notes=["in shadow"])
    assert done.exit_code == 1
    assert "open: 5432/tcp to 203.0.113.9" in done.stdout
    assert "in shadow" in done.stderr
    assert "it ends with a restart of the agent: no space" in done.stderr
    closed = neti("80 --close", unsaved="no space")
    assert closed.exit_code == 1
    assert "it is open again after a restart of the agent" in closed.stderr


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0, "0 s"), (59.9, "59 s"), (60, "1 min"), (7100, "1 h 58 min"), (3600, "1 h")),
        *((7 * 86_400, "7 d"), (93_784, "1 d 2 h"), (-5, "0 s")),
    ],
)
def test_how_long_is_said_in_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_since_when_is_said_only_where_it_is_known(neti: Open) -> None:
    """What somebody put into the kernel by hand is on no record."""
    known = neti("").stdout
    assert "(since 2027-01-15" in known
    unknown = neti("", opened=[{**OPENED, "at": 0.0}]).stdout
    assert "(until 2027-01-15" in unknown
    assert "1970" not in unknown


def test_where_no_agent_answers_kernel_and_disk_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "neti.yml"
    config.write_text(
        f"registry: embedded:{tmp_path}/registry.db\nsite: ec2\n"
        f"identity: {{id: a, private: 10.0.0.5}}\ntable_files_path: {tmp_path}/state\n"
    )
    asked: list[Path] = []

    def opened(settings: Any, machine: str) -> Answer:
        asked.append(settings.table_files_path)
        return answer_of({**ANSWER, "notes": ["the agent does not answer"]})

    monkeypatch.setattr(openings_alone, "opened", opened)
    run = ["open", "--list", "-c", str(config)]
    assert CliRunner().invoke(cli, run).exit_code != 0  # there never was an agent
    (tmp_path / "state").mkdir()
    shown = CliRunner().invoke(cli, run)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("5432/tcp to 203.0.113.9")
    assert "the agent does not answer" in shown.stderr
    assert asked == [tmp_path / "state"]
