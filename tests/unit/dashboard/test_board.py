"""What pages are told, and when."""

import asyncio
import http.client
import json
from contextlib import closing
from typing import Any

from tests.support.dashboards import running
from tests.unit.fleet.test_picture import NOW, away, cell, pictured, row

from neti.dashboard.board import Board
from neti.fleet.picture import Picture


def at(seconds: float, *cells: Any, **more: Any) -> Picture:
    shown = pictured(*cells, **more)
    return Picture(
        at=NOW + seconds, sites=shown.sites, cells=shown.cells, unanswered=shown.unanswered
    )


async def told(board: Board, since: int, within: float = 0.0) -> list[Any]:
    return [json.loads(one) for one in await board.after(since, within)]


def test_a_page_is_told_what_changed_and_no_more() -> None:
    async def play() -> None:
        board = Board("0.1.0")
        a, b = cell(row("a")), cell(row("b"))
        await board.show(at(0, a, b))
        assert [host[0] for host in board.whole()["hosts"]] == ["a", "b"]
        assert await told(board, board.revision) == []
        before = board.revision
        await board.show(at(1, a, b))
        assert board.revision == before  # nothing is otherwise
        await board.show(at(2, a, cell(away("b", "lost"))))
        (change,) = await told(board, before)
        assert [host[0] for host in change["hosts"]] == ["b"]
        assert "sites" not in change  # which are the same
        assert [one["what"] for one in change["events"]] == [
            "is lost: its session with the registry ended"
        ]
        await board.show(at(3, a))
        changes = await told(board, before)
        assert changes[-1]["gone"] == ["b"]
        assert [one.what for one in board.of_one("b")][-1].startswith("is in the registry no more")

    asyncio.run(play())


def test_who_waits_is_woken() -> None:
    async def play() -> None:
        board = Board("0.1.0")
        await board.show(at(0, cell(row("a"))))
        waits = asyncio.create_task(told(board, board.revision, 20.0))
        await asyncio.sleep(0)
        await board.show(at(1, cell(row("a", stage="down"))))
        (change,) = await waits
        assert change["events"][0]["what"] == "is down (was enforced)"

    asyncio.run(play())


def test_a_page_that_is_too_far_behind_asks_for_everything_anew() -> None:
    async def play() -> None:
        board = Board("0.1.0")
        for number in range(100):
            await board.show(at(number, cell(row("a", problems=[f"p{number}"]))))
        assert await told(board, 2) == [{"revision": board.revision, "anew": True}]
        assert await told(board, board.revision + 9) == [{"revision": board.revision, "anew": True}]
        assert len(await told(board, board.revision - 3)) == 3

    asyncio.run(play())


def test_a_registry_that_does_not_answer_is_told_and_is_no_event() -> None:
    async def play() -> None:
        board = Board("0.1.0")
        await board.show(at(0, cell(row("a"))))
        before = board.revision
        await board.show(at(0, cell(row("a")), unanswered="no server answers"))
        (change,) = await told(board, before)
        assert change["unanswered"] == "no server answers"
        assert change["events"] == []
        assert len(board.whole()["samples"]) == 1

    asyncio.run(play())


def test_events_of_more_than_an_hour_ago_are_of_no_page() -> None:
    async def play() -> None:
        board = Board("0.1.0")
        await board.show(at(0, cell(row("a"))))
        await board.show(at(1, cell(row("a", stage="trial"))))
        assert len(board.whole()["events"]) == 1
        await board.show(at(7200, cell(row("a", stage="trial"))))
        assert board.whole()["events"] == []
        assert len(board.of_one("a")) == 1

    asyncio.run(play())


def test_changes_are_sent_as_they_come_also_to_a_browser() -> None:
    """One that takes compressed answers: what is compressed waits until there is enough of it."""
    with running("30") as there:
        since = there.ask("/data/fleet").json()["revision"]
        asked = http.client.HTTPConnection("127.0.0.1", there.port, timeout=20)
        with closing(asked):
            said = {"Authorization": f"Bearer {there.token}", "Accept-Encoding": "gzip"}
            asked.request("GET", f"/data/changes?since={since}", headers=said)
            answer = asked.getresponse()
            assert answer.getheader("content-encoding") is None
            assert answer.getheader("content-type", "").startswith("text/event-stream")
            assert answer.readline().startswith(b"data: ")


def test_changes_come_live() -> None:
    with running("30") as there:
        first = there.ask("/data/fleet").json()
        assert len(first["hosts"]) == 30
        columns = first["columns"]
        change = next(iter(there.changes(first["revision"])))
        assert change["revision"] == first["revision"] + 1
        changed = dict(zip(columns, change["hosts"][0], strict=True))
        assert changed["shade"] == "enforced"
        said = there.ask(f"/data/host?id={changed['id']}").json()
        assert said["said"]["stage"] == "enforced"
        breaks = there.ask("/data/breaks").json()
        assert {"ports", "leftovers", "reach"} <= breaks.keys()
