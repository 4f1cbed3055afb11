"""Every lease is accounted for, and a gate passes only when everybody is seen to meet it."""

import json
import sys
import time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from neti.cli import cli, watching
from neti.control import client
from neti.fleet import attendance
from neti.fleet.attendance import Word
from neti.fleet.listing import Row
from neti.model import Member, entry
from neti.registry import HostRead, detail
from neti.registry.detail import gateways_named
from neti.registry.embedded.registry import EmbeddedRegistry
from neti.registry.record import HostRecord

LEASES = {name: IPv4Address(f"192.168.0.{n}") for n, name in enumerate("abcdef", 1)}

HINDERED = "requires encryption, and has no WireGuard device"
PARTLY = (
    "requires encryption with some of the other sites only: with the rest something may go in the "
    "clear. Where that is meant: --require encrypted-in-part"
)
DOWN = "is down: nothing is encrypted there, and everybody gets in"


def row(host_id: str, **changes: Any) -> Row:
    plain = {"id": host_id, "stage": "enforced", "state": "registered", "problems": []}
    return {**plain, **changes}


def test_every_lease_has_a_row_with_its_state() -> None:
    """Registered, left, not believed, lost, held; and gone for who is nowhere."""
    words = {"d": Word("lost", 1000.0, "ec2"), "e": Word("held", 2000.0, "vpc")}
    away = attendance.absent(LEASES, {"a"}, left={"b"}, not_believed={"c"}, words=words)
    assert [(one["id"], one["state"], one["site"]) for one in away] == [
        ("b", "left", None),
        ("c", "not believed", None),
        ("d", "lost", "ec2"),
        ("e", "held", "vpc"),
        ("f", "gone", None),
    ]
    assert attendance.summary(1, away[2:3]) == (
        "2 known, 1 registered: d lost since 1970-01-01 00:16:40 UTC"
    )
    assert attendance.summary(6, []) is None


def test_without_an_agent_nobody_says_since_when() -> None:
    """The registry keeps no trace of who is not there."""
    (away,) = attendance.absent({"a": LEASES["a"]}, (), words=None)
    assert (away["state"], away["since"]) == ("missing", None)


def test_one_whose_lease_was_released_and_who_is_held_is_known() -> None:
    """By the agent alone."""
    (away,) = attendance.absent({}, (), words={"z": Word("held", 5.0)})
    assert (away["id"], away["overlay"]) == ("z", None)


@pytest.mark.parametrize(
    ("changes", "required", "why"),
    [
        ({"encryption": "require"}, "encrypted", None),
        ({"encryption": "require"}, "can-encrypt", None),
        ({"encryption": "prefer"}, "can-encrypt", None),
        ({"encryption": "trial"}, "can-encrypt", None),
        (
            {"encryption": "trial"},
            "encrypted",
            "requires encryption on trial only, which is not confirmed yet",
        ),
        (
            {"encryption": "prefer"},
            "encrypted",
            "may still be reached in the clear: 'neti enforce' there",
        ),
        ({"encryption": "partly"}, "can-encrypt", None),
        ({"encryption": "partly"}, "encrypted-in-part", None),
        ({"encryption": "require"}, "encrypted-in-part", None),
        (
            {"encryption": "trial"},
            "encrypted-in-part",
            "requires encryption on trial only, which is not confirmed yet",
        ),
        ({"encryption": "partly", "stage": "shadow"}, "encrypted-in-part", "is in shadow"),
        (
            {"encryption": "partly", "problems": ["fight"]},
            "encrypted-in-part",
            "is not in step: fight",
        ),
        (
            {"encryption": "partly"},
            "encrypted",
            PARTLY,
        ),
        ({"encryption": "unable"}, "can-encrypt", "has no WireGuard device"),
        ({"encryption": "unable"}, "encrypted", "has no WireGuard device"),
        ({"encryption": "require-unable"}, "can-encrypt", HINDERED),
        ({"encryption": "require-unable"}, "encrypted", HINDERED),
        ({"encryption": "require", "stage": "down", "problems": ["down_open"]}, "encrypted", DOWN),
        ({"encryption": "prefer", "stage": "down"}, "can-encrypt", DOWN),
        ({"encryption": "require", "stage": "shadow"}, "encrypted", "is in shadow"),
        ({"encryption": "require", "stage": "trial"}, "encrypted", "is trial"),
        ({"encryption": "require", "stage": "?"}, "encrypted", "does not say its stage (?)"),
        (
            {"encryption": "require", "problems": None},
            "encrypted",
            "does not say whether it is in step",
        ),
        (
            {"encryption": "require", "problems": ["disk", "fight"]},
            "encrypted",
            "is not in step: fight",
        ),
        (
            {"encryption": "require", "problems": ["config_unread"]},
            "encrypted",
            "has not read its neti.yml since that was changed: 'neti reload' there",
        ),
        ({"encryption": "require", "problems": ["encryption_silent"]}, "encrypted", None),
        ({"encryption": "off"}, "encrypted", "encrypts with no other site"),
        ({}, "encrypted", "does not say whether it encrypts"),
        ({"encryption": "of a later version"}, "can-encrypt", "does not say whether it encrypts"),
        ({}, "enforced", None),
        ({"stage": "down"}, "enforced", "is down"),
        ({"stage": "shadow"}, "enforced", "is in shadow"),
        ({"stage": "trial"}, "enforced", "is trial"),
        ({"stage": "?"}, "enforced", "does not say its stage (?)"),
        ({"stage": "down"}, "shadow", "is down"),
        ({}, "no-problem", None),
        ({"problems": ["disk", "kernel"]}, "no-problem", "has problems: disk, kernel"),
        ({"problems": None}, "no-problem", "does not say what is wrong with it"),
        ({}, "in-step", None),
        ({"problems": ["disk", "tables"]}, "in-step", None),
        ({"problems": ["disk", "kernel"]}, "in-step", "is not in step: kernel"),
        ({"problems": ["down"]}, "in-step", "is not in step: down"),
        ({"problems": None}, "in-step", "does not say whether it is in step"),
    ],
)
def test_who_does_not_say_does_not_meet_it(
    changes: dict[str, Any], required: attendance.Required, why: str | None
) -> None:
    """A positive gate."""
    found = attendance.unmet([row("a", **changes)], [], [required], 0.0)
    assert found == ([("a", why)] if why else [])


def test_hosts_of_a_site_that_encrypt_with_other_sites_than_each_other_are_named() -> None:
    """One whose file lacks a pair says as little as one of which a pair is meant to be clear."""
    rows = [
        row("a", site="ec2", encryption="require"),
        row("b", site="ec2", encryption="partly"),
        row("c", site="vpc", encryption="partly"),
        row("d", site="lab", encryption="require"),
    ]
    odd = "neti.yml does not require the same on all hosts of site ec2: partly on b, require on a"
    assert attendance.unmet_by_the_fleet(rows, True, ["encrypted-in-part"]) == [odd]
    assert attendance.unmet_by_the_fleet(rows, True, ["encrypted"]) == []
    assert attendance.unmet_by_the_fleet(rows[1:], True, ["encrypted-in-part"]) == []
    told, _ = attendance.verdict(4, 0, ["encrypted-in-part"]).splitlines()
    assert told == "4 hosts, all encrypted where each host's own neti.yml requires it"


def test_who_is_told_that_all_are_encrypted_is_told_of_what() -> None:
    """It is of members' roads; files may let something through beside them, as no host says."""
    told, beside = attendance.verdict(4, 0, ["enforced", "encrypted"]).splitlines()
    assert told == "4 hosts, all enforced and encrypted"
    assert beside.startswith("not counted: what trusted and open_ports let through in the clear")
    assert attendance.verdict(4, 1, ["encrypted"]) == "1 of 4 is not encrypted"
    assert attendance.verdict(4, 0, ["can-encrypt"]) == "4 hosts, all able to encrypt"


@pytest.mark.parametrize("required", attendance.REQUIRED)
def test_who_is_away_meets_nothing(required: attendance.Required) -> None:
    """Lost, held, missing alike."""
    away = attendance.absent(LEASES, (), left={"a"}, words={"b": Word("lost", 1.0)})
    assert len(attendance.unmet([], away, [required], 0.0)) == len(LEASES)


def test_all_that_is_required_is_named_at_once() -> None:
    """In one line for each host."""
    both = row("a", stage="shadow", problems=["disk"])
    assert attendance.unmet([both], [], ["no-problem", "enforced"], 0.0) == [
        ("a", "is in shadow, has problems: disk")
    ]


def test_one_reason_of_two_requirements_is_said_once() -> None:
    held = row("a", encryption="require", problems=["kernel"])
    assert attendance.unmet([held], [], ["in-step", "encrypted"], 0.0) == [
        ("a", "is not in step: kernel")
    ]


def test_codes_of_problems_are_checked() -> None:
    """They come from another host."""
    hostile = ["disk", "a b", "\x1b[2J", 7, "x" * 99, "disk", "-rf"]
    told = detail.decode(json.dumps({"problems": hostile}).encode())
    assert told.problems == ("disk",)
    assert detail.decode(b'{"problems": "disk"}').problems is None
    many = detail.decode(json.dumps({"problems": [f"c{n}" for n in range(99)]}).encode())
    assert len(many.problems or ()) == detail.MAX_CODES


# --- the command ---


# What the agent of h-1 says of itself.
STATUS = {
    "version": "1",
    "id": "h-1",
    "site": "ec2",
    "private": "10.0.0.1",
    "registry": {"fresh": True},
}


class Fleet:
    """Over an embedded registry, on a machine without an agent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "neti.yml"
        self.config.write_text(
            f"registry: embedded:{folder}/registry.db\ntable_files_path: {folder}/state\n"
            "site: ec2\nidentity: {id: me, private: 10.0.0.99}\n"
            "sites: {ec2: {private: [10.0.0.0/8]}, vpc: {private: [10.0.0.0/8]}}\n"
        )

    def joins(self, number: int, **detail: Any) -> EmbeddedRegistry:
        member = Member(
            id=f"h-{number}",
            site="ec2" if number % 2 else "vpc",
            private=IPv4Address(f"10.0.0.{number}"),
            public=None,
            overlay=IPv4Address(f"192.168.0.{number}"),
        )
        return self.member(member, **detail)

    def member(self, member: Member, **detail: Any) -> EmbeddedRegistry:
        registry = EmbeddedRegistry(self.folder / "registry.db")
        subnet = IPv4Network("192.168.0.0/18")
        registry.acquire(member.id, subnet, prefer=member.overlay)
        registry.register(
            host_id=member.id,
            name=entry.encode(member),
            data=b"",
            detail=json.dumps({"name": member.id, "version": "1", **detail}).encode(),
        )
        return registry

    def leases(self, number: int) -> None:
        registry = EmbeddedRegistry(self.folder / "registry.db")
        registry.acquire(f"h-{number}", IPv4Network("192.168.0.0/18"))
        registry.close()

    def __call__(self, *words: str) -> Result:
        return self.neti("fleet", *words)

    def neti(self, command: str, *words: str) -> Result:
        return CliRunner().invoke(cli, [command, "-c", str(self.config), *words])


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def test_the_gate_passes_only_when_everybody_is_seen_to_be_enforced(fleet: Fleet) -> None:
    """Not with nobody, not with one who is down, not with one who is missing."""
    assert fleet("--require", "enforced").exit_code == 1
    fleet.joins(1, stage="enforced", problems=[])
    passed = fleet("--require", "enforced", "--require", "in-step", "--require", "no-problem")
    assert passed.exit_code == 0, passed.output
    assert passed.stdout == "1 host, all enforced and in step and without a problem\n"
    fleet.joins(2, stage="down", problems=["down_open"])
    failed = fleet("--require", "enforced")
    assert failed.exit_code == 1
    assert failed.stdout == "h-2  is down\n1 of 2 is not enforced\n"
    assert fleet("--stage", "down").stdout.count("h-2") == 2
    fleet.leases(3)
    failed = fleet("--require", "enforced", "--json")
    assert failed.exit_code == 1
    told = json.loads(failed.stdout)
    assert told["known"] == 3
    assert [one["id"] for one in told["unmet"]] == ["h-2", "h-3"]
    assert fleet("--require", "enforced", "--site", "ec2").exit_code == 1  # h-3 may be there
    excepted = ("--except", "h-2", "--except", "h-3")
    assert fleet("--require", "enforced", *excepted).exit_code == 0


def test_nobody_is_surely_encrypted_where_keys_may_be_anybodys(fleet: Fleet) -> None:
    registry = fleet.joins(1, stage="enforced", problems=[], encryption="require")
    failed = fleet("--require", "encrypted")
    assert failed.exit_code == 1
    assert failed.stdout == (
        "strict is not on in the registry, so a key may be another's: 'neti registry strict'\n"
        "1 host, and it is not sure that any is encrypted\n"
    )
    told = json.loads(fleet("--require", "encrypted", "--json").stdout)
    assert (told["unmet"], len(told["fleet"])) == ([], 1)
    assert fleet("--require", "can-encrypt").exit_code == 0
    registry.change_setting("strict", b"on 2026-11-27T12:00:00Z")
    passed = fleet("--require", "encrypted")
    assert passed.exit_code == 0, passed.output
    assert passed.stdout.startswith("1 host, all encrypted\n")
    registry.change_setting("strict", b"off 2026-11-27T13:00:00Z")
    assert fleet("--require", "encrypted").exit_code == 1


def test_another_port_of_the_tunnel_is_named(fleet: Fleet) -> None:
    """Each calls the others by its own. Also where the gate asks about another site alone."""
    told = {"stage": "enforced", "problems": [], "encryption": "prefer"}
    for number in (1, 3, 5):
        fleet.joins(number, **told, tunnel_port=51820)
    fleet.joins(7, stage="enforced", problems=[], encryption="off")
    assert "tunnel_port" not in fleet().stderr
    passed = fleet("--require", "can-encrypt", "--except", "h-7")
    assert passed.exit_code == 0, passed.output
    fleet.joins(2, **told, tunnel_port=51821)
    said = "tunnel_port is not the same on all hosts: 51820 on 3 of them, 51821 on h-2\n"
    assert said in fleet().stderr
    failed = fleet("--require", "can-encrypt", "--site", "ec2", "--except", "h-7")
    assert failed.exit_code == 1
    assert said in failed.stdout
    fleet.joins(4, **told, tunnel_port="51822")
    assert "51822" not in fleet().stderr


def test_wrong_words_are_refused(fleet: Fleet) -> None:
    """A gate must not pass because of a typing error."""
    fleet.joins(1, stage="shadow")
    assert fleet("--require", "enforcd").exit_code == 2
    assert fleet("--except", "h-1").exit_code == 2
    assert fleet("--require", "enforced", "--except", "h-9").exit_code == 2
    assert fleet("--require", "enforced", "--site", "moon").exit_code != 0


def test_a_lost_host_is_in_what_programs_read(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is when somebody has to scrape it. One that only holds a lease may never have been."""
    fleet.joins(1, stage="shadow")
    fleet.leases(2)
    fleet.leases(3)
    lost = {"id": "h-2", "overlay": "192.168.0.2", "since": 5.0}
    status = {**STATUS, "lost": [lost]}
    members = [{"id": "h-2", "site": "vpc"}]
    answers = {"status": status, "members": members}
    monkeypatch.setattr(client, "call", lambda _folder, command, **_: answers[command])
    inventory = json.loads(fleet("--format", "ansible").stdout)
    assert inventory["vpc"] == {"hosts": ["h-2"]}
    assert inventory["_meta"]["hostvars"]["h-2"]["neti_state"] == "lost"
    assert inventory["_meta"]["hostvars"]["h-1"]["neti_state"] == "registered"
    targets = json.loads(fleet("--format", "prometheus", "--port", "9177").stdout)
    states = {one["labels"]["id"]: one["labels"]["__meta_neti_state"] for one in targets}
    assert states == {"h-1": "registered", "h-2": "lost"}
    assert "h-2,h-2,vpc" in fleet("--format", "csv").stdout
    assert "\th-2\n" in fleet("--format", "hosts").stdout
    for style in ("csv", "hosts", "ansible", "prometheus"):
        assert "h-3" not in fleet("--format", style).stdout
        assert "h-2" not in fleet("--format", style, "--registered-only").stdout
        assert "h-2" not in fleet("--format", style, "--site", "ec2").stdout
    assert fleet("--registered-only").exit_code == 2


def test_whom_an_agent_keeps_is_there_though_the_registry_was_wiped(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peers let it in and reach it: that a fleet without it is all well is not so."""
    fleet.joins(1, stage="shadow", problems=[], written=int(time.time()))
    held = {"id": "h-2", "overlay": "192.168.0.2", "since": 5.0, "reason": "too many at once"}
    status = {**STATUS, "holds": [held]}
    answers = {"status": status, "members": [{"id": "h-2", "site": "vpc"}]}
    monkeypatch.setattr(client, "call", lambda _folder, command, **_: answers[command])
    (row,) = json.loads(fleet("--json").stdout)["away"]
    assert (row["id"], row["state"], row["overlay"]) == ("h-2", "held", "192.168.0.2")
    failed = fleet("--require", "no-problem")
    assert failed.exit_code == 1
    assert "h-2" in failed.output


def test_an_address_that_several_hosts_have_is_none_of_them(fleet: Fleet) -> None:
    """Two sites with the same private addresses are what Neti is for."""
    for number in (1, 2):
        member = Member(
            id=f"h-{number}",
            site="ec2" if number == 1 else "vpc",
            private=IPv4Address("10.0.0.7"),
            public=None,
            overlay=IPv4Address(f"192.168.0.{number}"),
        )
        fleet.member(member)
    for words in (("ready",), ("drained",), ("retire", "--dry-run", "--anyway")):
        said = fleet.neti(words[0], *words[1:], "10.0.0.7")
        assert said.exit_code == 1, said.output
        assert "10.0.0.7 is an address of several hosts: h-1, h-2" in said.output
        assert "by its id" in said.output
    assert "h-2" in fleet.neti("drained", "192.168.0.2").output


def test_a_missing_host_is_seen_in_the_table(fleet: Fleet) -> None:
    """And in JSON; hosts files and inventories are of those that are there."""
    fleet.joins(1, stage="shadow")
    fleet.leases(2)
    told = fleet()
    assert told.exit_code == 0
    assert "missing" in told.stdout
    assert "2 known, 1 registered: h-2 missing" in told.stderr
    assert json.loads(fleet("--json").stdout)["away"][0]["id"] == "h-2"
    for style in ("csv", "hosts", "ansible", "prometheus"):
        assert "h-2" not in fleet("--format", style).stdout


def test_other_gateways_than_most_hosts_name_are_named(fleet: Fleet) -> None:
    """Hosts that name others send to gateways that do not expect it. A host that names none may
    need none."""
    usual = gateways_named({"ec2": ["gw-1", "gw-2"], "vpc": ()})
    assert usual == gateways_named({"ec2": ["gw-2", "gw-1"]})
    for number in (1, 3, 5):
        fleet.joins(number, stage="enforced", gateways=usual)
    fleet.joins(7, stage="enforced", gateways=gateways_named({"ec2": ()}))
    assert "gateways" not in fleet().stderr
    fleet.joins(2, stage="enforced", gateways=gateways_named({"ec2": ["gw-1"]}))
    said = "not name the same gateways on all hosts: h-2 name others than the 3 that agree"
    assert said in fleet().stderr


WRITTEN = 1_790_000_000


def test_hosts_are_found_and_counted_by_their_labels(fleet: Fleet) -> None:
    """In each format; of a host that has none nobody says anything."""
    fleet.joins(1, stage="enforced", labels={"tier": "db"}, problems=["disk"], written=WRITTEN)
    fleet.joins(2, stage="shadow", labels={"tier": "db", "rack-row": "=1+1"}, written=WRITTEN)
    fleet.joins(3, stage="shadow", labels={"tier": "web\x1b[31m"}, written=WRITTEN)
    fleet.joins(4, stage="shadow")
    table = fleet().stdout.splitlines()
    assert table[0].split()[-2:] == ["LABELS", "PROBLEMS"]
    assert "tier=db" in table[1] + table[2]
    assert "\x1b" not in fleet().stdout
    found = json.loads(fleet("--where", "tier=db", "--json").stdout)["members"]
    assert {row["id"] for row in found} == {"h-1", "h-2"}
    found = json.loads(fleet("--problem", "disk", "--json").stdout)["members"]
    assert [row["id"] for row in found] == ["h-1"]
    assert "tier=db" in fleet("--where", "tier=db", "--format", "csv").stdout
    assert ",=1+1" not in fleet("--format", "csv").stdout
    (target,) = json.loads(fleet("--where", "rack-row==1+1", "--format", "prometheus").stdout)
    assert target["labels"]["label_rack_row"] == "=1+1"
    assert fleet("--by", "tier").stdout.splitlines() == [
        "tier=(none)  1: 1 shadow",
        "tier=?  1: 1 shadow",
        "tier=db  2: 1 enforced, 1 shadow; 1 with a problem",
    ]
    totals = json.loads(fleet("--by", "stage", "--json").stdout)["totals"]
    assert [(one["value"], one["hosts"]) for one in totals] == [("enforced", 1), ("shadow", 3)]


@pytest.mark.parametrize("wrong", ["tier", "Tier=db", "tier=", "tier= db"])
def test_what_is_no_label_is_refused(fleet: Fleet, wrong: str) -> None:
    assert fleet("--where", wrong).exit_code == 2


def test_a_gate_by_label_counts_whoever_may_have_it(fleet: Fleet) -> None:
    """A host that is missing, or whose agent tells no labels, may be one of them."""
    good, now = {"stage": "enforced", "problems": []}, int(time.time())
    fleet.joins(1, **good, labels={"tier": "db"}, written=now)
    fleet.joins(2, stage="shadow", labels={"tier": "web"}, written=now)
    asked = ("--where", "tier=db", "--require", "enforced,no-problem")
    passed = fleet(*asked)
    assert passed.exit_code == 0, passed.output
    assert passed.stdout == "1 host, all enforced and without a problem\n"
    fleet.joins(3, stage="shadow", problems=[])
    assert "h-3  is in shadow" in fleet(*asked).stdout
    fleet.leases(4)
    assert "h-4  missing" in fleet(*asked).stdout
    assert fleet("--where", "tier=none", "--require", "enforced").exit_code == 1
    assert fleet("--require", "enforced,nonsense").exit_code == 2


def test_relaxed_and_down_are_said_with_who_and_when(fleet: Fleet) -> None:
    """A relaxed host is in shadow too, for whoever asks for that."""
    order = {"by": "alice\x1b[2J", "at": WRITTEN, "until": WRITTEN + 3600}
    fleet.joins(1, stage="shadow", relaxed=order, written=WRITTEN)
    fleet.joins(2, stage="down", down={"by": "", "at": WRITTEN}, written=WRITTEN)
    shown = fleet()
    assert " relaxed" in shown.stdout
    assert (
        "relaxed: h-1 since 2026-09-21 14:13:20 UTC until 2026-09-21 15:13:20 UTC" in shown.stderr
    )
    assert "down: h-2 since 2026-09-21 14:13:20 UTC" in shown.stderr
    assert "\x1b" not in shown.output
    for stage in ("relaxed", "shadow"):
        found = json.loads(fleet("--stage", stage, "--json").stdout)["members"]
        assert [row["id"] for row in found] == ["h-1"]
    assert fleet("--require", "enforced").exit_code == 1


def test_a_host_that_has_not_written_for_long_is_named(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.joins(1, stage="enforced", written=WRITTEN)
    monkeypatch.setattr(time, "time", lambda: WRITTEN + 2400.0)
    assert "said nothing for more than 12 min: h-1 40 min ago" in fleet().stderr
    monkeypatch.setattr(time, "time", lambda: WRITTEN + 600.0)
    assert fleet().stderr == ""


def test_a_gate_passes_nobody_by_what_is_old(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that hangs says nothing of how its host is now. Nor does a document from the
    future: nobody knows how old it is. Such a host may have any label by now."""
    told = {"stage": "enforced", "problems": [], "encryption": "prefer"}
    fleet.joins(1, **told, labels={"tier": "web"}, written=WRITTEN)
    asked = ("--require", "enforced,in-step,no-problem,can-encrypt")
    for away, why in (
        (2400.0, "what it said last is 40 min old"),
        (-2400.0, "what it said last is from the future by 40 min, so one clock is wrong"),
    ):
        monkeypatch.setattr(time, "time", lambda away=away: WRITTEN + away)
        for more in ((), ("--where", "tier=web"), ("--where", "tier=db")):
            failed = fleet(*asked, *more)
            assert failed.exit_code == 1
            assert failed.stdout.startswith(f"h-1  does not say how it is now: {why}\n1 of 1 is ")
    assert "their clocks are ahead of this machine's: h-1 by 40 min" in fleet().stderr
    for away in (700.0, -700.0):
        monkeypatch.setattr(time, "time", lambda away=away: WRITTEN + away)
        assert fleet(*asked).exit_code == 0
        assert fleet(*asked, "--where", "tier=db").stdout.startswith("nobody is known")


def test_a_gate_names_of_whom_somebody_else_says_something(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.joins(1, stage="enforced")
    monkeypatch.setattr(EmbeddedRegistry, "sessions", lambda _self, names: dict.fromkeys(names, 7))
    failed = fleet("--require", "enforced")
    assert failed.exit_code == 1
    assert "so it is not believed: h-1" in failed.stderr


def test_who_was_admitted_and_never_came_is_shown_and_not_missed(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it: it is in no gate and no count of who is missing."""
    fleet.joins(1, stage="enforced", problems=[])
    fleet.leases(2)
    admitted = {"h-2": HostRead("h-2", HostRecord())}
    monkeypatch.setattr(
        EmbeddedRegistry,
        "records",
        lambda _self, ids=None: {i: r for i, r in admitted.items() if ids is None or i in ids},
    )
    shown = fleet()
    assert "never seen" in shown.stdout
    assert "known" not in shown.stderr
    assert fleet("--require", "enforced").exit_code == 0
    found = json.loads(fleet("--state", "never seen", "--json").stdout)
    assert ([row["id"] for row in found["away"]], found["members"]) == (["h-2"], [])


def test_a_lost_host_has_the_time_that_it_has_left() -> None:
    words = {"h-1": Word("lost", 1000.0, "ec2", 300.0)}
    (row,) = attendance.absent({"h-1": IPv4Address("192.168.0.1")}, (), words=words)
    said = attendance.summary(1, [row])
    assert said is not None
    assert said.endswith("h-1 lost since 1970-01-01 00:16:40 UTC, gone in 5 min")


@pytest.mark.parametrize(
    "words",
    [
        *(
            f"--require enforced {more}"
            for more in (
                "--stage enforced",
                "--state registered",
                "--problem disk",
                "--version 1",
                "--below-version 2",
                "--by site",
                "--format csv",
                "--format csv --registered-only",
                "--format prometheus --port 9177",
                "--watch",
                "--used",
                "--skipped",
            )
        ),
        *(
            f"{one} {more}"
            for one in ("--used", "--skipped")
            for more in (
                "--watch",
                "--fresh",
                "--site ec2",
                "--where a=b",
                "--by site",
                "--format csv",
            )
        ),
        "--used --skipped",
    ],
)
def test_an_option_that_would_not_count_is_refused(fleet: Fleet, words: str) -> None:
    """A gate that leaves one out of sight passes as if it had been asked for. Nor may a gate be
    about hosts by what goes wrong with them: whoever is not enforced would be no part of it."""
    fleet.joins(1, stage="enforced", problems=[])
    refused = fleet(*words.split())
    assert refused.exit_code == 2
    assert "does not go with" in refused.stderr


def test_what_goes_together_is_not_refused(fleet: Fleet) -> None:
    fleet.joins(1, stage="enforced", labels={"a": "b"}, written=int(time.time()))
    gate = "--require enforced --site ec2 --where a=b --format json"
    assert fleet(*gate.split()).exit_code == 0
    assert json.loads(fleet("--used", "--format", "json").stdout)["leased"] == 1
    assert json.loads(fleet("--skipped", "--format", "json").stdout) is not None


def test_whoever_watches_may_ask_anew_first(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once; and who does not say when it wrote is named."""
    fleet.joins(1, stage="enforced")
    drawn, asked = list[float](), list[bytes]()

    def sleep(seconds: float) -> None:
        drawn.append(seconds)
        if len(drawn) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr(watching, "is_terminal", lambda stream: stream is sys.stdout)
    monkeypatch.setattr(
        EmbeddedRegistry, "change_setting", lambda _self, _name, value: asked.append(value)
    )
    told = fleet("--watch", "--fresh")
    assert told.exit_code == 0, told.output
    assert len(asked) == 1
    assert told.stdout.count("h-1") >= 2 * 2
    assert "so nobody sees whether they answer: h-1" in told.stderr
    asked.clear()
    assert fleet("--watch", "--fresh", "--json").exit_code == 1
    assert not asked
