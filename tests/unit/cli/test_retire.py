"""What ``neti retire``, ``ready``, ``drained`` and ``lease move --check`` print and write."""

import json
import time
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from neti.cli import cli
from neti.host import caller
from neti.model import Departure, entry
from neti.oneshot import moving, retiring
from neti.registry.detail import CallsSeen, Document, Verified, encode
from neti.registry.embedded.registry import EmbeddedRegistry
from neti.registry.retired import decode, taken_back

SUBNET = IPv4Network("192.168.0.0/18")


def document(*, last: int | None = None, opened: int = 0) -> Document:
    now = int(time.time())
    return Document(
        stage="enforced",
        problems=(),
        left=(),
        left_since=now - 900_000,
        calls=CallsSeen(since=now - 900_000, at=now, last=last, open=opened),
        verified=Verified(at=now, tried=1, reached=1, missed=(), missed_more=0, word=""),
        written=now,
    )


@pytest.fixture
def registry(tmp_path: Path) -> EmbeddedRegistry:
    """web-1 and web-2 are registered, and db-1 only holds a lease."""
    (tmp_path / "neti.yml").write_text(
        f"registry: embedded:{tmp_path}/registry.db\n"
        "sites: {ec2: {private: [10.0.0.0/16], public: [198.51.100.0/24]}}\n"
        f"table_files_path: {tmp_path}/state\n"
    )
    made = EmbeddedRegistry(tmp_path / "registry.db")
    for host_id in ("db-1", "web-1"):
        made.acquire(host_id, SUBNET)
    register(made, "web-1", 1, document())
    register(EmbeddedRegistry(tmp_path / "registry.db"), "web-2", 2, document(opened=7))
    return made


def register(registry: EmbeddedRegistry, host_id: str, number: int, told: Document) -> None:
    overlay = int(registry.acquire(host_id, SUBNET))
    name = f"1.0a0000{number:02x}00000000{overlay:08x}.0.ec2.{host_id}"
    said = encode(told)
    registry.register(host_id=host_id, name=name, data=b"", detail=said, report=said)


def run(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "-c", str(tmp_path / "neti.yml")])


def retired(registry: EmbeddedRegistry) -> set[str]:
    return set(decode(registry.setting("retired")))


def test_who_is_called_is_left_alone_and_the_others_go(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    dry = run(tmp_path, "retire", "web-1", "web-2", "--dry-run")
    assert dry.exit_code == 1
    assert "web-2: NOT drained" in dry.stderr
    assert "7 connections of members are open" in dry.stderr
    assert "web-1: would leave" in dry.stdout
    assert not retired(registry)
    asked = run(tmp_path, "retire", "web-1", "web-2")
    assert "no terminal on which to ask" in asked.stderr
    assert not retired(registry)
    done = run(tmp_path, "retire", "web-1", "web-2", "--yes", "--wait", "0s")
    assert done.exit_code == 1
    assert retired(registry) == {"web-1"}


def test_a_host_that_is_silent_goes_only_where_that_is_meant(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """Its agent may be dead, and its clients connected."""
    assert run(tmp_path, "drained", "db-1").exit_code == 1
    kept = run(tmp_path, "retire", "db-1", "--yes")
    assert kept.exit_code == 1
    assert "db-1: not known to be drained" in kept.stderr
    assert not retired(registry)
    asked = run(tmp_path, "retire", "db-1", "--anyway", "--release-leases")
    assert "if db-1 still runs, cut off from the registry, its clients lose it" in asked.stderr
    assert not retired(registry)
    done = run(tmp_path, "retire", "db-1", "--yes", "--anyway")
    assert done.exit_code == 0, done.output
    assert "db-1: was not registered; it is retired" in done.stdout
    assert retired(registry) == {"db-1"}


def test_a_host_whose_agent_does_not_follow_is_named(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    done = run(tmp_path, "retire", "web-1", "--yes", "--wait", "0s")
    assert done.exit_code == 1
    assert "web-1: STILL registered after 0 s" in done.stdout
    dry = run(tmp_path, "retire", "web-1", "--dry-run")
    assert "web-1: is retired already, and registered all the same" in dry.stdout
    registry.close()
    again = run(tmp_path, "retire", "web-1", "--yes", "--json")
    assert again.exit_code == 0, again.output
    (row,) = json.loads(again.stdout)["hosts"]
    assert row == {"id": "web-1", "state": "was not registered; it is retired", "still_in": []}


def test_who_only_lost_its_session_is_not_out(
    registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peers let go at once of who says goodbye, and of no other."""
    rest = [name for name in registry.names() if not name.endswith((".web-1", ".web-2"))]
    bye = entry.encode_goodbye(Departure("web-2", 0))
    monkeypatch.setattr(EmbeddedRegistry, "names", lambda _self: frozenset({*rest, bye}))
    found = {i: said for i, _after, said in retiring.gone(registry, ["web-1", "web-2"], seconds=0)}
    assert found == {"web-1": False, "web-2": True}


def test_the_lease_of_who_did_not_say_goodbye_is_kept(
    registry: EmbeddedRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peers still send there what is for its address."""
    overlay = registry.lease_of("web-1")
    monkeypatch.setattr(retiring, "gone", lambda *_, **__: iter([("web-1", 0.5, False)]))
    done = run(tmp_path, "retire", "web-1", "--yes", "--release-leases")
    assert done.exit_code == 1
    assert "web-1: WITHOUT a goodbye" in done.stdout
    assert registry.lease_of("web-1") == overlay


def test_leases_are_given_up_when_that_is_said(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    overlay = registry.lease_of("db-1")
    assert run(tmp_path, "retire", "db-1", "--yes", "--anyway").exit_code == 0
    assert registry.lease_of("db-1") == overlay
    done = run(tmp_path, "retire", "db-1", "--yes", "--release-leases")
    assert done.exit_code == 0, done.output
    assert f"{overlay} is free" in done.stdout
    assert registry.lease_of("db-1") is None
    assert retired(registry) == {"db-1"}


def test_groups_that_name_a_retired_host_are_told(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    for group in ("app", "monitoring"):
        assert run(tmp_path, "group", "set", group, "web-1").exit_code == 0
    done = run(tmp_path, "retire", "web-1", "--yes", "--wait", "0s")
    assert done.stdout.splitlines()[-3:] == [
        "groups app, monitoring have a line for web-1",
        "→ neti group remove app web-1",
        "→ neti group remove monitoring web-1",
    ]
    registry.change_setting("groups", b"?")
    unread = run(tmp_path, "retire", "web-1", "--yes", "--wait", "0s")
    assert unread.stdout.splitlines()[-2:] == [
        "whether a group has a line for them is not known",
        "→ neti group list",
    ]
    again = run(tmp_path, "retire", "web-1", "--yes", "--wait", "0s", "--json")
    assert json.loads(again.stdout)["hosts"][0]["still_in"] is None


def test_they_are_listed_and_let_in_again(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    run(tmp_path, "retire", "db-1", "--yes", "--anyway")
    listed = run(tmp_path, "retire", "--list")
    assert "db-1  retired at" in listed.stdout
    assert "1 host is retired" in listed.stdout
    wrong = run(tmp_path, "retire", "--back", "web-1", "db-1")
    assert "not retired: web-1: nothing was changed" in wrong.stderr
    assert retired(registry) == {"db-1"}
    assert run(tmp_path, "retire", "--back", "db-1").exit_code == 0
    assert not retired(registry)
    forgotten = run(tmp_path, "retire", "--back", "web-1", "--yes")
    assert forgotten.exit_code == 0, forgotten.output
    assert "web-1: is let in again" in forgotten.stdout
    assert taken_back(registry.setting("retired")).keys() == {"db-1", "web-1"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["retire", "--list"],
        ["retire", "--back", "db-1", "--yes"],
        ["retire", "db-1", "--anyway", "--yes"],
        ["lease", "move", "web-1", "web-2", "--check"],
        ["lease", "move", "web-1", "web-2", "--take-out", "--anyway", "--yes"],
    ],
)
def test_a_list_that_cannot_be_read_is_not_nobody(
    registry: EmbeddedRegistry, tmp_path: Path, arguments: list[str]
) -> None:
    held = b'{"format":2,"words":[]}'
    registry.change_setting("retired", held)
    done = run(tmp_path, *arguments)
    assert done.exit_code
    assert "list of retired hosts is not what" in done.output
    assert registry.setting("retired") == held


def test_where_the_address_of_a_retired_host_is_is_looked_up(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """The word comes before the move."""
    overlay = registry.lease_of("db-1")
    retiring.say(registry, ["db-1"], now=time.time(), to="web-2", overlay=overlay)
    begun = run(tmp_path, "retire", "--list").stdout
    assert f"its address {overlay} has NOT gone to web-2 yet" in begun
    assert "→ neti lease move db-1 web-2 --take-out goes on" in begun
    registry.move("db-1", "web-2")
    assert f"its address {overlay} went to web-2" in run(tmp_path, "retire", "--list").stdout
    registry.move("web-2", "web-1", force=True)
    later = run(tmp_path, "retire", "--list").stdout
    assert f"{overlay}, meant for web-2, is that of web-1 now" in later
    (row,) = json.loads(run(tmp_path, "retire", "--list", "--json").stdout)
    assert (row["overlay"], row["holder"]) == (str(overlay), "web-1")


@pytest.mark.parametrize("arguments", [[], ["--list", "db-1"], ["--back", "db-1", "--anyway"]])
def test_what_makes_no_sense_is_refused(
    registry: EmbeddedRegistry, tmp_path: Path, arguments: list[str]
) -> None:
    assert run(tmp_path, "retire", *arguments).exit_code == 2


def test_ready_and_drained_say_it_by_their_exit_codes(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    green = run(tmp_path, "ready", "web-1")
    assert green.exit_code == 0, green.output
    assert "web-1: may it move? yes · may it be enforced? yes · may it be retired? yes" in (
        green.stdout
    )
    assert "run it on web-1 to see" in green.stdout
    red = run(tmp_path, "ready", "web-2", "--json")
    assert red.exit_code == 2
    assert json.loads(red.stdout)["lights"] == {
        "move": "green",
        "enforce": "green",
        "retire": "red",
    }
    assert run(tmp_path, "ready", "web-2", "--to", "move").exit_code == 0
    drained = run(tmp_path, "drained", "web-1")
    assert drained.exit_code == 0, drained.output
    assert "web-1: drained: no member calls it" in drained.stdout
    both = run(tmp_path, "drained", "web-1", "web-2", "--json")
    assert both.exit_code == 1
    assert [one["drained"] for one in json.loads(both.stdout)] == [True, False]
    assert run(tmp_path, "drained", "nobody").exit_code == 1
    assert run(tmp_path, "drained", "web-1", "--quiet", "soon").exit_code == 2


def test_a_move_is_looked_at_first(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    overlay = registry.lease_of("web-1")
    checked = run(tmp_path, "lease", "move", "web-1", "web-2", "--check")
    assert checked.exit_code == 1, checked.output
    assert "7 connections are open to web-2" in checked.stdout
    wrong = run(tmp_path, "lease", "move", "web-1", "db-1", "--check")
    assert wrong.exit_code == 2
    assert "so nobody would answer at the address" in wrong.stdout
    itself = run(tmp_path, "lease", "move", "web-1", "web-1", "--check")
    assert itself.exit_code == 2
    assert "web-1 holds its lease already" in itself.stdout
    refused = run(tmp_path, "lease", "move", "web-1", "db-1", "--take-out", "--yes")
    assert refused.exit_code == 1
    assert "nothing was changed" in refused.stderr
    assert registry.lease_of("web-1") == overlay
    assert not retired(registry)
    assert run(tmp_path, "lease", "move", "a", "b", "--check", "--force").exit_code == 2


def test_a_move_that_is_cut_off_while_it_waits_is_in_the_journal(
    registry: EmbeddedRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = list[tuple[str, dict[str, object]]]()
    monkeypatch.setattr(caller, "note", lambda command, **what: noted.append((command, what)))

    def cut_off(self: moving.Move) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(moving.Move, "_answers", cut_off)
    overlay, former = registry.lease_of("web-1"), registry.lease_of("web-2")
    done = run(tmp_path, "lease", "move", "web-1", "web-2", "--take-out", "--yes")
    assert done.exit_code != 0
    assert registry.lease_of("web-2") == overlay
    assert [command for command, _ in noted] == ["retire", "lease move"]
    assert noted[0][1]["ids"] == "web-1"
    moved = {"overlay": overlay, "old": "web-1", "new": "web-2", "freed": former, "force": True}
    assert noted[1][1] == moved
