"""What ``neti verify`` prints: by which road each member was reached, what is lost, what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from neti.agent import packet_sizes
from neti.agent.member_talk import Answer, Stalled
from neti.cli import cli
from neti.control import client

OWN = {"private": "10.0.0.5", "public": "198.51.100.5", "overlay": "192.168.0.5"}
MEMBERS = {
    "near": ("here", "plain", "private"),
    "far": ("away", "plain", "public"),
    "linked": ("peered", "plain", "private"),
    "hidden": ("secret", "preferred", "overlay"),
}
ADDRESSES = {f"192.168.0.{number}": name for number, name in enumerate(MEMBERS, 10)}
Run = Callable[..., Any]
ROWS: list[dict[str, Any]] = []  # what the agent was told


@pytest.fixture
def members() -> list[dict[str, Any]]:
    """As the agent tells of them."""
    return [
        {"id": name, "site": MEMBERS[name][0], "overlay": overlay, "road": MEMBERS[name][1]}
        for overlay, name in ADDRESSES.items()
    ]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: list[dict[str, Any]]) -> Run:
    """``carries``: what each road does."""
    path = tmp_path / "neti.yml"
    path.write_text(
        f"registry: embedded:{tmp_path}/r.db\ntable_files_path: {tmp_path}/state\nsite: here\n"
        "identity: {id: me, private: 10.0.0.5, public: 198.51.100.5}\nsites:\n"
        "  here: {private: [10.0.0.0/24], public: [198.51.100.0/24]}\n"
        "  away: {private: [10.0.1.0/24], public: [203.0.113.0/25]}\n"
        "  peered: {private: [10.0.2.0/24], reached_by: private}\n"
        "  secret: {private: [10.0.3.0/24], public: [203.0.113.128/25], encrypt: prefer}\n"
    )
    itself = {"id": "me", "site": "here", **OWN, "version": "1", "registry": {"fresh": True}}
    answers = {"status": itself, "members": members, "verified": "kept"}

    def call(_folder: Path, what: str, **said: Any) -> Any:
        if what == "verified":
            ROWS.append(said)
        return answers[what]

    ROWS.clear()
    monkeypatch.setattr(client, "call", call)

    def verify(*words: str, carries: int = 1500, code: int = 0) -> Any:
        def talk(overlay: str, *_: Any, largest: int | None = None, pieces: bool = False) -> Answer:
            name = ADDRESSES[overlay]
            size = min(1500, largest or 1500)
            if size > carries:
                raise Stalled(size, sent=True, round_trip=0.01)
            return Answer(name, OWN[MEMBERS[name][2]], size, size)

        monkeypatch.setattr(packet_sizes, "talk", talk)
        told = CliRunner().invoke(cli, ["verify", "-c", str(path), *words])
        assert told.exit_code == code, told.output
        return json.loads(told.stdout) if "--json" in words else told.stdout

    return verify


def test_each_line_names_the_road_and_the_last_one_counts_them(run: Run) -> None:
    near, far, linked, hidden, all_ = run().splitlines()
    assert near.endswith("seen from 10.0.0.5, inside the site, packets of 1500 bytes")
    assert far.endswith("seen from 198.51.100.5, by public address, packets of 1500 bytes")
    assert linked.endswith("seen from 10.0.0.5, by private link, packets of 1500 bytes")
    assert hidden.endswith("seen from 192.168.0.5, encrypted, packets of 1500 bytes")
    assert all_ == (
        "4 of 4 members reached: 1 inside the site, 1 by public address, 1 by private link, "
        "1 encrypted"
    )


def test_gateways_on_the_way_are_named(run: Run, members: list[dict[str, Any]]) -> None:
    members[-1]["gateways"] = ["gw-1", "gw-2"]
    hidden = run().splitlines()[3]
    assert "encrypted by gateway gw-1, then gw-2, packets of 1500 bytes" in hidden
    *others, last = run("--json")["results"]
    assert last["gateways"] == ["gw-1", "gw-2"]
    assert not any(one["gateways"] for one in others)


def test_programs_are_told_the_same(run: Run) -> None:
    results = run("--json")["results"]
    assert [one["reached_by"] for one in results] == ["inside", "public", "private", "encrypted"]
    assert all(one["packets"] == {"there": 1500, "back": 1500} for one in results)
    assert all(one["lost"] is None for one in results)
    results = run("--json", carries=1400, code=1)["results"]
    assert all(one["lost"]["largest"] == 1400 and one["packets"] is None for one in results)


def test_what_to_do_about_lost_packets_depends_on_the_road(run: Run) -> None:
    *lines, all_ = run(carries=1400, code=1).splitlines()
    said = "FAIL  small packets arrive, 1500-byte ones are lost on the way back; "
    assert all(said in line for line in lines)
    assert all("the largest that passes is 1400 bytes: " in line for line in lines)
    icmp = "or let ICMP type 3 code 4 through"
    assert [line.partition("bytes: ")[2] for line in lines] == [
        f"set the MTU of this site's interfaces to that, {icmp}",
        f"set sites.away.mtu to 1400, {icmp}",
        f"set sites.peered.mtu to 1400, {icmp}",
        "set sites.secret.mtu to 1460",
    ]
    assert all_ == "0 of 4 members reached"


def test_a_wrong_way_is_named_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is lost on it is told all the same."""
    monkeypatch.setitem(OWN, "public", "198.51.100.66")  # what the member sees
    (far,) = run("--json", "far", carries=1400, code=1)["results"]
    assert far["error"] == "it saw this host as 198.51.100.66, expected 198.51.100.5"
    assert far["lost"]["largest"] == 1400


def test_the_agent_hears_what_was_found_of_all_members_but_those_that_are_lost(
    run: Run, members: list[dict[str, Any]]
) -> None:
    """For this host's row; and nothing of a look at some of them."""
    run("near")
    assert ROWS == []
    members[0]["lost"] = True
    run()
    assert ROWS == [{"tried": 3, "missed": []}]
    run(carries=1400, code=1)
    assert ROWS[-1] == {"tried": 3, "missed": ["far", "linked", "hidden"]}
