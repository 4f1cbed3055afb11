"""What the log's lines look like, for people, for the journal, and for machines."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from neti import log

SAID = (
    "from neti import log; log.configure(None, {format!r});"
    "log.warning('member_lost', id='i-1', seconds=0.25, what='a \"b\"\\nc');"
    "log.error('kernel_refused', time='noon'); log.info('up')"
)


def said(*, form: str, journal: bool) -> list[str]:
    """By a program whose stderr is a pipe, which may be the journal's."""
    read, write = os.pipe()
    status = os.fstat(write)
    stream = f"{status.st_dev}:{status.st_ino}" if journal else f"{status.st_dev}:1"
    subprocess.run(
        [sys.executable, "-c", SAID.format(format=form)],
        stderr=write,
        env={**os.environ, "JOURNAL_STREAM": stream},
        check=True,
    )
    os.close(write)
    with os.fdopen(read) as pipe:
        return pipe.read().splitlines()


def test_the_journal_gets_priorities_and_no_second_time() -> None:
    """systemd reads the priority from the line's beginning and knows the time itself."""
    assert said(form="text", journal=True) == [
        '<4>member_lost id=i-1 seconds=0.250 what="a \\"b\\"\\nc"',
        "<3>kernel_refused time=noon",
        "<6>up",
    ]


def test_elsewhere_a_line_has_its_time_and_level() -> None:
    """JOURNAL_STREAM alone proves nothing: stderr was redirected here."""
    first = said(form="text", journal=False)[0]
    assert first[:2] == "20"
    assert " WARNING member_lost id=i-1" in first


def test_json_is_one_object_a_line() -> None:
    """Also for the journal; numbers stay numbers, and no field hides what every line has."""
    lost, refused, up = (
        json.loads(line.removeprefix(f"<{n}>"))
        for n, line in zip((4, 3, 6), said(form="json", journal=True), strict=True)
    )
    assert (lost["event"], lost["level"], lost["id"]) == ("member_lost", "warning", "i-1")
    assert (lost["seconds"], lost["what"]) == (0.25, 'a "b"\nc')
    assert refused["time_"] == "noon"
    assert refused["time"].startswith("20")
    assert set(up) == {"time", "level", "event"}


def test_a_log_file_gets_no_priorities(tmp_path: Path) -> None:
    """Whatever stderr is."""
    path = tmp_path / "neti.log"
    try:
        log.configure(path, "json")
        log.info("lease_held", overlay=IPv4Address("192.168.0.9"))
    finally:
        log.configure(None)
    assert json.loads(path.read_text())["overlay"] == "192.168.0.9"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "neti.log"
    log.configure(path)
    yield path
    log.configure(None)


def events(path: Path) -> list[str]:
    return [line.split()[3] for line in path.read_text().splitlines()]


def test_a_file_that_was_moved_away_is_made_anew(file: Path) -> None:
    """As logrotate does it, which needs to tell nobody."""
    log.info("first")
    file.rename(f"{file}.1")
    log.info("second")
    assert events(Path(f"{file}.1")) == ["first"]
    assert events(file) == ["second"]


def test_it_is_opened_anew_when_somebody_asks(file: Path) -> None:
    """Before the next line, so that the former file can be compressed."""
    log.info("first")
    file.rename(f"{file}.1")
    log.reopen()
    assert file.exists()
    log.info("second")
    assert events(file) == ["second"]


def test_what_the_file_does_not_take_goes_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is not there, a full disk: no line is lost, and none raises."""
    folder = tmp_path / "folder"
    log.configure(folder / "neti.log")
    try:
        assert "cannot be written: No such file" in (log.fault() or "")
        log.info("beside")
        folder.mkdir()
        log.info("within")
        assert log.fault() is None
        assert events(folder / "neti.log") == ["within"]
        (folder / "neti.log").unlink()
        (folder / "neti.log").symlink_to("/dev/full")
        log.info("full")
        assert "No space left" in (log.fault() or "")
    finally:
        log.configure(None)
    said = capsys.readouterr().err
    assert "beside" in said
    assert "full" in said
    assert "within" not in said
    assert "Traceback" not in said


def test_foreign_text_stays_in_its_line() -> None:
    """Another host's or program's words begin no line, move no cursor and have an end."""
    foreign = "a\x1b[2J\u202e\ud800\x9b\u2028\n<0>kernel: forged level=error" + "x" * 100_000
    said = log.line("entry_skipped", {"name": foreign, "why": "junk"})
    assert said.isprintable()
    assert len(said) < 5_000
    assert said.startswith('entry_skipped name="a\\u001b[2J')
    assert said.endswith('" why=junk')
