"""What ``neti leftovers`` prints."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from neti.cli import cli
from neti.control import client
from neti.control.client import AgentUnreachable

NOW = 1_000_000.0
ROW = {
    "member": "db-1",
    "address": "10.0.0.12",
    "protocol": "tcp",
    "port": 5432,
    "overlay": "192.168.22.134",
    "uid": 0,
    "group": "/system.slice/app.service",
    "container": None,
    "calls": 214,
    "first": NOW - 500_000,
    "last": NOW - 4,
}
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    path = tmp_path / "neti.yml"
    (tmp_path / "state").mkdir()
    path.write_text(
        "overlay_subnet: 192.168.0.0/16\nsites: {here: {}}\nsite: here\n"
        f"identity: {{id: me, private: 10.0.0.5}}\ntable_files_path: {tmp_path}/state\n"
        f"registry: embedded:{tmp_path}/registry.db\n"
    )

    def neti(*arguments: str, rows: tuple[dict[str, Any], ...] = (), **more: Any) -> Result:
        document = {"agent": True, "since": NOW - 600_000, "now": NOW, "rows": rows, **more}
        monkeypatch.setattr(client, "call", lambda *_, **__: document)
        return CliRunner().invoke(cli, ["leftovers", "-c", str(path), *arguments])

    return neti


def test_each_caller_is_named_with_what_to_use_instead(run: Run) -> None:
    contained = {**ROW, "uid": None, "group": "", "container": "172.17.0.3", "calls": 1}
    gone = {**ROW, "member": "old-1", "address": "10.0.0.99", "overlay": None, "uid": 4242}
    done = run(rows=(ROW, gone, contained))
    assert done.output.splitlines() == [
        "3 uses of real addresses of members (recorded for 6 d)",
        "",
        "app.service, of user root",
        "  → db-1 at 10.0.0.12, 5432/tcp: 214 connections, last 4 s ago: use 192.168.22.134",
        "",
        "app.service, of user number 4242",
        "  → old-1 at 10.0.0.99, 5432/tcp: 214 connections, last 4 s ago: it is no member now",
        "",
        "container 172.17.0.3",
        "  → db-1 at 10.0.0.12, 5432/tcp: 1 connection, last 4 s ago: use 192.168.22.134",
    ]


def test_one_member_alone(run: Run) -> None:
    gone = {**ROW, "member": "old-1", "address": "10.0.0.99"}
    assert "old-1" not in run("--to", "db-1", rows=(ROW, gone)).output
    shown = json.loads(run("--to", "db-1", "--json", rows=(ROW, gone)).output)
    assert [row["member"] for row in shown["rows"]] == ["db-1"]
    assert "Nothing here uses a real address of db-8" in run("--to", "db-8", rows=(ROW,)).output
    assert "no member has the id or the address db-9" in run("--to", "db-9", unknown=True).output


def test_a_hostile_name_does_not_reach_the_terminal(run: Run) -> None:
    """A member chooses its id, and a user names groups."""
    bad = {**ROW, "member": "a\x1b[2J", "group": "/x\x07.service"}
    output = run(rows=(bad,)).output
    assert "\x1b" not in output
    assert "\x07" not in output


def test_what_is_missing_is_said(run: Run) -> None:
    output = run(rows=(), since=NOW - 60, missed=3, faults=["the record begins anew"]).output
    assert "Less than a day is recorded" in output
    assert "3 connections found no room" in output
    assert "the record begins anew" in output


def test_without_an_agent_it_is_what_is_on_disk(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run()

    def away(*_: object, **__: object) -> object:
        raise AgentUnreachable("no agent answers")

    monkeypatch.setattr(client, "call", away)
    path = str(tmp_path / "neti.yml")
    done = CliRunner().invoke(cli, ["leftovers", "-c", path])
    assert "what it last wrote to disk" in done.output, done.output
    assert done.exit_code == os.EX_OK
