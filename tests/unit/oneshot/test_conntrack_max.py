"""What the units' first step does as root: raise conntrack_max, and never be in the way.

The machine's own limit is not touched: the kernel's files are in a folder of the test.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from neti.cli import cli
from neti.dataplane import conntrack_limit
from neti.dataplane.conntrack_limit import ConntrackLimit, Paths
from neti.errors import DataplaneError
from neti.oneshot import conntrack_max

UNITS = ("neti.service", "neti-restore.service")
DEPLOY = Path(__file__).parents[3] / "deploy"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    folder = tmp_path / "kernel"
    folder.mkdir()
    made = Paths(
        limit=folder / "max",
        tracked=folder / "count",
        buckets=folder / "buckets",
        hash_size=folder / "hashsize",
        memory=folder / "meminfo",
        sockets=(),
        boot=folder / "boot_id",
    )
    made.limit.write_text("131072\n")
    made.tracked.write_text("10\n")
    made.buckets.write_text("131072\n")
    made.memory.write_text("MemTotal:        8388608 kB\n")
    made.boot.write_text("first boot\n")
    return made


@pytest.fixture
def run(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """``neti conntrack-max`` with these lines in neti.yml, as root on the test's kernel."""

    def limit(folder: Path, **more: Any) -> ConntrackLimit:
        return ConntrackLimit(folder, paths=paths, **more)

    monkeypatch.setattr(conntrack_max, "ConntrackLimit", limit)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(conntrack_max, "switched_off", lambda: None)
    (tmp_path / "state").mkdir()

    def command(*lines: str) -> tuple[int, str]:
        text = f"table_files_path: {tmp_path}/state\nzk_hosts: {{ec2: [10.0.0.5]}}\n"
        (tmp_path / "neti.yml").write_text(text + "".join(f"{line}\n" for line in lines))
        words = ["conntrack-max", "-c", str(tmp_path / "neti.yml")]
        done = CliRunner().invoke(cli, words)
        return done.exit_code, done.output

    return command


def limit_of(paths: Paths) -> int:
    return int(paths.limit.read_text())


def test_raised_as_the_configuration_says(run: Any, paths: Paths) -> None:
    assert run() == (0, "")
    assert limit_of(paths) == 524_288
    assert run("conntrack_max: 600000") == (0, "")
    assert limit_of(paths) == 600_000


def test_the_kernel_is_made_to_track_first(
    run: Any, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the module there is no limit, and it would come with the first rule that tracks."""
    paths.limit.unlink()
    monkeypatch.setattr(conntrack_max, "load_tracking", lambda: paths.limit.write_text("131072\n"))
    assert run() == (0, "")
    assert limit_of(paths) == 524_288


def test_never_lowered(run: Any, paths: Paths) -> None:
    code, said = run("conntrack_max: 2000")
    assert (code, limit_of(paths)) == (0, 131_072)
    assert "never lowers" in said


def test_what_was_found_is_put_back_by_down(run: Any, paths: Paths, tmp_path: Path) -> None:
    """What root noted is what down reads, whoever runs the agent."""
    run()
    assert ConntrackLimit(tmp_path / "state", paths=paths).put_back() == ()
    assert limit_of(paths) == 131_072


@pytest.mark.parametrize("lines", [["conntrack_max: many"], ["nonsense: ["]])
def test_an_invalid_file_is_no_reason_not_to_start(
    run: Any, paths: Paths, lines: list[str]
) -> None:
    """The agent itself says what is wrong with it, with its own exit code."""
    code, said = run(*lines)
    assert (code, limit_of(paths)) == (0, 131_072)
    assert "neti.yml" in said


def test_nothing_is_raised_while_neti_is_down(run: Any, paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "state/down").touch()
    assert run() == (0, "")
    assert limit_of(paths) == 131_072


def test_a_refusing_kernel_is_named(
    run: Any, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, value: int) -> None:
        raise DataplaneError(f"{path}: the kernel refused {value}")

    monkeypatch.setattr(conntrack_limit, "_write", refuse)
    code, said = run()
    assert code == 0
    assert "the kernel refused 524288" in said


def test_root_follows_no_link_of_the_agents_user(run: Any, paths: Paths, tmp_path: Path) -> None:
    """The folder is the agent's: what lies there must not lead root's pen elsewhere."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "state/.conntrack.json.new").symlink_to(victim)
    assert run() == (0, "")
    assert victim.read_text() == "untouched"
    assert not (tmp_path / "state/conntrack.json").is_symlink()
    assert limit_of(paths) == 524_288


def test_who_may_not_write_it_is_told_who_does(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent under its own user: neither a namespace's sentence, nor an error at down."""
    monkeypatch.setattr("os.geteuid", lambda: 990)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    limit = ConntrackLimit(tmp_path, paths=paths)
    (sentence,) = limit.raise_to("auto")
    assert "only root may: neti.service does it when it starts" in sentence
    assert "namespace" not in sentence
    assert limit_of(paths) == 131_072


@pytest.mark.parametrize("unit", UNITS)
def test_the_units_do_it_before_the_first_rule(unit: str) -> None:
    """As root, and whatever comes of it."""
    lines = (DEPLOY / unit).read_text().splitlines()
    step = lines.index("ExecStartPre=-+/usr/bin/neti conntrack-max")
    assert lines[step + 1].startswith("ExecStart=/usr/bin/neti ")
