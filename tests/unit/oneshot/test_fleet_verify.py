"""``neti fleet verify``: operators ask, each host answers by a row, and somebody reads them all."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from tests.support.agents import World, world

from neti.agent import verifying
from neti.cli import cli
from neti.cli import fleet_verify as command
from neti.oneshot import fleet_verify
from neti.oneshot.documents import told_by
from neti.oneshot.fleet_verify import NotForMembers, Rows
from neti.registry.detail import Verified
from neti.registry.memory import MemoryRegistry

Fails = set[str]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Fails:
    unreached: Fails = set()

    def verify_all(
        _settings: Any, _itself: Any, members: Sequence[dict[str, Any]], **_: Any
    ) -> list[dict[str, Any]]:
        return [{"id": one["id"], "ok": one["id"] not in unreached} for one in members]

    monkeypatch.setattr(verifying, "verify_all", verify_all)
    return unreached


class Asking:
    """One command in a fleet whose clock only it moves."""

    def __init__(self, fleet: World, owner: str = "") -> None:
        self.fleet = fleet
        self.registry = MemoryRegistry(fleet.server, owner=owner)
        self.seconds = 0.0

    def __call__(self, settings: Any) -> Rows:
        *_, last = fleet_verify.ask(
            settings, self.registry, sleep=self._sleep, clock=lambda: self.seconds
        )
        return last

    def _sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.fleet.pass_time(seconds)


def test_all_hosts_answer_the_word_and_nobody_is_waited_for_longer(
    fleet: World, fails: Fails
) -> None:
    boxes = fleet.crowd(range(1, 6))
    fleet.pass_time(61)
    fails.add("ec2-3")
    asking = Asking(fleet)
    found = asking(boxes[0].settings)
    assert found.by.keys() == found.sites.keys() == {box.host.id for box in boxes}
    assert not found.waiting
    assert asking.seconds < found.within / 2
    assert {row.missed for i, row in found.by.items() if i != "ec2-3"} == {("ec2-3",)}
    again = fleet_verify.rows(boxes[0].settings, asking.registry)
    assert again.by == found.by


def reports_nothing(box: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an agent of an earlier version, which says everything in its document."""
    describe = box.registry.describe
    monkeypatch.setattr(box.registry, "describe", lambda i, _detail, report: describe(i, report))
    box.running.registration.describing.describe()


def test_who_is_down_or_knows_no_rows_or_hangs_gives_none(
    fleet: World, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three, four = fleet.crowd(range(1, 5))
    fleet.pass_time(61)
    two.ask("down")
    fleet.settle()
    reports_nothing(three, monkeypatch)
    three.running.registration.describing.to_verify = lambda _word: None
    four.running.registration.describing.to_verify = lambda _word: None
    asking = Asking(fleet)
    found = asking(one.settings)
    assert found.by.keys() == {"ec2-1"}
    assert found.waiting == {"ec2-4"}
    two.running.verifying.last = found.by["ec2-1"]
    two.running.registration.describing.describe()
    fleet.settle()
    assert fleet_verify.rows(one.settings, asking.registry).by.keys() == {"ec2-1"}, "of before"
    assert asking.seconds >= found.within, "they might have answered"


def test_nobody_waits_for_agents_of_an_earlier_version(
    fleet: World, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = fleet.crowd((1, 2))
    fleet.pass_time(61)
    reports_nothing(two, monkeypatch)
    two.running.registration.describing.to_verify = lambda _word: None
    fleet.settle()
    asking = Asking(fleet)
    found = asking(one.settings)
    assert (set(found.by), found.waiting) == ({"ec2-1"}, frozenset())
    assert asking.seconds < found.within / 2


def test_who_registers_again_when_somebody_looks_is_waited_for(
    fleet: World, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment it says nothing at all."""
    one, _ = fleet.crowd((1, 2))
    fleet.pass_time(61)
    asking = Asking(fleet)
    looks = list[int]()

    def once_missing(registry: Any, believed: Any) -> Any:
        looks.append(len(believed))
        found = told_by(registry, believed)
        if len(looks) != 2:
            return found
        by = {i: said for i, said in found.by.items() if i != "ec2-2"}
        return replace(found, by=by, reported=found.reported - {"ec2-2"})

    monkeypatch.setattr(fleet_verify, "told_by", once_missing)
    found = asking(one.settings)
    assert len(looks) > 2
    assert set(found.by) == {"ec2-1", "ec2-2"}


def test_rows_of_another_word_are_no_answer(fleet: World, fails: Fails) -> None:
    one, two = fleet.crowd((1, 2))
    fleet.pass_time(61)
    asking = Asking(fleet)
    asking(one.settings)
    two.running.registration.describing.to_verify = lambda _word: None
    found = asking(one.settings)
    assert set(found.by) == {"ec2-1"}
    assert found.waiting == {"ec2-2"}


def test_a_members_certificate_asks_nobody(fleet: World) -> None:
    one = fleet.started(1)
    fleet.server.rights = True
    asking = Asking(fleet, owner="ec2-1")
    with pytest.raises(NotForMembers, match="operators only"):
        fleet_verify.rows(one.settings, asking.registry)
    with pytest.raises(NotForMembers, match="operators only"):
        asking(one.settings)
    assert asking.registry.setting("asked") is None


Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command, where hosts say this."""

    @contextmanager
    def registry_of(_settings: Any) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace()

    monkeypatch.setattr(command, "registry_of", registry_of)
    path = tmp_path / "neti.yml"
    path.write_text(
        "registry: embedded:/nowhere\nsite: ec2\n"
        "sites: {ec2: {private: [10.0.0.0/16]}, vpc: {private: [10.1.0.0/16]}}\n"
    )

    def invoke(rows: Rows, *words: str) -> Any:
        monkeypatch.setattr(fleet_verify, "rows", lambda *_: rows)
        return CliRunner().invoke(cli, ["fleet", "verify", "-c", str(path), *words])

    return invoke


def test_a_line_for_each_member_that_is_not_reached(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = frozenset({f"web-{number}" for number in range(1, 9)} | {"db-1", "new"})
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    rows = {
        i: Verified(
            at=940 if i == "web-1" else 990,
            tried=9,
            reached=8 if i < "web-7" and i != "db-1" else 9,
            missed=("db-1",) if i < "web-7" and i != "db-1" else (),
        )
        for i in members - {"new"}
    }
    done = run(Rows(sites=dict.fromkeys(members, "ec2"), by=rows))
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "db-1: not reached by 6 of 8: web-1, web-2, web-3, web-4, web-5 and 1 more",
        "no row: 1 host: new",
        "9 of 10 hosts verified, the first 60 s ago: 75 of 81 tries reached their member",
    ]
    shown = json.loads(run(Rows(sites=dict.fromkeys(members, "ec2"), by=rows), "--json").stdout)
    assert shown["not_reached"][0]["by"] == [f"web-{number}" for number in range(1, 7)]
    assert (shown["silent"], shown["whole"]) == (["new"], False)


def test_a_host_that_reaches_nearly_nobody_has_a_line_of_its_own(run: Run) -> None:
    row = Verified(at=1, tried=40, reached=3, missed=("b",), missed_more=36)
    ok = Verified(at=1, tried=40, reached=40)
    done = run(Rows(sites=dict.fromkeys("ab", "ec2"), by={"a": row, "b": ok}))
    assert done.exit_code == 1
    assert done.stdout.splitlines()[:2] == [
        "b: not reached by 1 of 1: a",
        f"a: reaches 3 of 40; 36 {command._NOT_COUNTED}",
    ]


def test_hosts_that_reach_nearly_nobody_do_not_bury_the_targets(run: Run) -> None:
    """Nor do those that tried nearly nobody, whom a gate does not pass."""
    ids = [f"h{number}" for number in range(30)]
    rows = {
        i: Verified(at=1, tried=29, reached=0, missed=("h0",), missed_more=28 - number)
        for number, i in enumerate(ids[:20])
    }
    rows |= {i: Verified(at=1, tried=number, reached=number) for number, i in enumerate(ids[20:])}
    done = run(Rows(sites=dict.fromkeys(ids, "ec2"), by=rows))
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert next(line for line in lines if "reaches" in line).startswith("h0: reaches 0 of 29; 28 ")
    assert len([line for line in lines if "reaches" in line]) == 10
    assert "10 more such hosts: --json has all of them" in lines
    few = ", ".join(f"h{20 + number} tried {number}" for number in range(5))
    assert f"tried fewer than there are: 10 hosts: {few} and 5 more" in lines


def test_a_look_at_one_site_is_not_about_what_lies_between_the_sites(run: Run) -> None:
    """A row names members of its own site first."""
    far = tuple(f"v{number}" for number in range(3))
    sites = {**dict.fromkeys("ab", "ec2"), **dict.fromkeys(far, "vpc")}
    cut_off = Verified(at=1, tried=40, reached=1, missed=far, missed_more=36)
    rows = Rows(sites=sites, by={"a": cut_off, "b": cut_off})
    done = run(rows, "--site", "ec2")
    assert done.exit_code == 0
    assert done.stdout.startswith("2 of 2 hosts verified, the first ")
    assert "tries" not in done.stdout
    assert run(rows, "--site", "vpc").stdout.splitlines()[0] == "no row: 3 hosts: v0, v1, v2"
    near = Verified(at=1, tried=40, reached=1, missed=("b", "v0"), missed_more=37)
    done = run(Rows(sites=sites, by={"a": near, "b": cut_off}), "--site", "ec2")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0] == "b: not reached by 1 of 1: a"


def test_only_a_whole_fleet_ends_well(run: Run) -> None:
    ok = Verified(at=1, tried=1, reached=1)
    assert run(Rows(sites=dict.fromkeys("ab", "ec2"), by={"a": ok, "b": ok})).exit_code == 0
    done = run(Rows(sites=dict.fromkeys("ab", "ec2"), by={}))
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "→ neti fleet verify --wait"


def test_who_is_lost_is_named_and_the_fleet_is_not_whole(
    run: Run, fleet: World, fails: Fails
) -> None:
    one, two = fleet.crowd((1, 2))
    fleet.pass_time(61)
    session = two.registry._session
    two.stop()
    assert session is not None
    fleet.server.expire(session)
    fleet.settle()
    found = Asking(fleet)(one.settings)
    assert set(found.by) == {"ec2-1"}
    assert found.away == {"ec2-2"}
    done = run(found)
    assert done.exit_code == 1
    assert "not registered: 1 host: ec2-2: see 'neti fleet'" in done.stdout
    assert not json.loads(run(found, "--json").stdout)["whole"]


def test_an_option_of_the_listing_before_it_is_refused() -> None:
    done = CliRunner().invoke(cli, ["fleet", "--site", "ec2", "verify"])
    assert done.exit_code == 2
    assert "--site: expected behind 'verify', or not at all" in done.output
