"""One file with all of it, in which nothing that a host says can become part of the page."""

import asyncio
import html.parser
import json
import stat
import time
from pathlib import Path

from tests.support import shown_fleet
from tests.support.shown_fleet import HOSTILE

from neti.dashboard import export
from neti.dashboard.board import Board


class Elements(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.data = ""
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        held = dict(attrs)
        self.links += [value for name, value in attrs if name in ("src", "href") and value]
        self._inside = tag == "script" and held.get("id") == "neti-export"

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        self.data += data if self._inside else ""


def page(count: int, *, hostile: bool) -> str:
    watched = shown_fleet.MadeUp(
        shown_fleet.settings(), shown_fleet.made(count, hostile=hostile, now=1_800_000_000.0)
    )
    board = Board("0.1.0")
    asyncio.run(board.show(watched.look()))
    return export.page(watched._settings, watched.now, board, time.time())


def test_all_of_it_is_inside() -> None:
    read = Elements()
    read.feed(page(60, hostile=False))
    held = json.loads(read.data)
    assert len(held["fleet"]["hosts"]) == 60
    assert len(held["hosts"]) == 60
    assert held["hosts"]["db-0"]["callers"]
    assert held["breaks"]["ports"]
    assert not [link for link in read.links if not link.startswith(("#", "data:"))]


def test_what_a_host_says_is_data_and_nothing_else() -> None:
    plain, hostile = Elements(), Elements()
    plain.feed(page(60, hostile=False))
    hostile.feed(page(60, hostile=True))
    assert hostile.tags == plain.tags
    said = json.dumps(json.loads(hostile.data), ensure_ascii=False)
    assert HOSTILE[0] in said


def test_a_browser_runs_nothing_but_its_own_scripts() -> None:
    text = page(3, hostile=True)
    policy = text.partition('Content-Security-Policy" content="')[2].partition('"')[0]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "unsafe" not in policy
    assert "connect-src" not in policy  # so nothing is asked of anybody


def test_it_is_its_owners_alone(tmp_path: Path) -> None:
    there = tmp_path / "fleet.html"
    export.write(there, "x")
    assert stat.S_IMODE(there.stat().st_mode) == 0o600
