"""``neti fleet leftovers``: by whom each member is called, and nobody is passed over."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.told_fleet import Neti, told_fleet

from neti.registry.detail import Document, Left


@pytest.fixture(name="neti")
def _neti(tmp_path: Path) -> Iterator[Neti]:
    now = int(time.time())
    old, late = (
        Left(to="db-1", port="5432/tcp", calls=calls, last=now - ago)
        for calls, ago in ((214, 10900), (3, 7300))
    )
    documents = {
        "app-1": Document(left=(old,), labels={"tier": "app"}, written=now),
        "app-2": Document(left=(late,), left_more=3, labels={"tier": "app"}, written=now),
        "cron-1": Document(stage="shadow", labels={"tier": "cron"}, written=now),  # does not say
        "db-2": Document(left=(), labels={"tier": "db"}, written=now),
    }
    with told_fleet(tmp_path, documents) as neti:
        yield neti


def test_each_member_is_named_with_those_who_call_it(neti: Neti) -> None:
    assert neti("leftovers").output.splitlines() == [
        "db-1 is called by its real address",
        "  from app-2, 5432/tcp: 3 connections, last 2 h ago",
        "  from app-1, 5432/tcp: 214 connections, last 3 h ago",
        "more than they have room to say is called from: app-2 (3 more)",
        "→ 'neti leftovers' there",
        "1 host does not say: cron-1",
    ]
    shown = json.loads(neti("leftovers", "--json").output)
    assert shown["silent"] == ["cron-1"]
    assert shown["cut"] == {"app-2": 3}
    assert [call["from"] for call in shown["calls"]] == ["app-2", "app-1"]


def test_one_member_is_asked_about_by_its_id_or_an_address(neti: Neti) -> None:
    nobody = "no host says that it calls a real address of db-2"
    assert nobody in neti("leftovers", "--to", "db-2").output
    assert nobody in neti("leftovers", "--to", "10.0.0.4").output
    # It is no member now, and is named by who it was.
    assert "db-1 is called" in neti("leftovers", "--to", "db-1").output
    unknown = neti("leftovers", "--to", "10.9.9.9")
    assert unknown.exit_code == 1
    assert "no host has the id or the address 10.9.9.9" in unknown.output


def test_labels_choose_the_hosts_that_call(neti: Neti) -> None:
    assert neti("leftovers", "--where", "tier=cron").output.splitlines() == [
        "none of these hosts says that it calls a real address of members",
        "1 host does not say: cron-1",
    ]
    assert neti("leftovers", "--site", "there").exit_code != 0


def test_who_has_said_nothing_for_long_is_asked_about_by_any_label(tmp_path: Path) -> None:
    """Nobody knows which labels it has by now, nor whom it calls."""
    now = int(time.time())
    documents = {
        "app-1": Document(left=(), labels={"tier": "app"}, written=now),
        "app-2": Document(left=(), labels={"tier": "db"}, written=now - 3600),
        "app-3": Document(),
    }
    with told_fleet(tmp_path, documents) as neti:
        shown = neti("leftovers", "--where", "tier=app").output.splitlines()
    assert shown[-1] == "2 hosts do not say: app-2, app-3"


def test_a_filter_that_lets_nobody_through_says_what_there_is(neti: Neti) -> None:
    for words in (("leftovers",), ("preview",), ()):
        done = neti(*words, "--where", "tier=ap")
        assert "neti: no host has tier=ap. Hosts have label tier: app, cron, db" in done.stderr
    gate = neti("--where", "tier=ap", "--require", "shadow")
    assert gate.exit_code == 1
    assert "no host has tier=ap" in gate.stderr


def test_totals_and_filters_say_of_whom_nothing_is_known(tmp_path: Path) -> None:
    now = int(time.time())
    documents = {
        "a": Document(stage="enforced", labels={"tier": "app"}, written=now),
        "b": Document(stage="enforced", labels={"tier": "app"}, written=now - 3600),
        "c": Document(),
    }
    with told_fleet(tmp_path, documents) as neti:
        totals = neti("--by", "stage").stderr
        filtered = neti("--where", "tier=app").stderr
    assert "said nothing for more than 12 min: b 60 min ago" in totals
    assert "1 host is left out, because nobody knows the labels there: c" in filtered
