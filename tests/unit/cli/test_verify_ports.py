"""``neti verify --ports``: prediction and fact side by side, and what is said where they differ."""

import json
import threading
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from neti.agent.dialling import SECONDS, Outcome
from neti.agent.member_talk import Answer as Said
from neti.cli import cli
from neti.control import client
from neti.model.document import plain
from neti.monitoring.explained import Answer, Pair
from neti.oneshot import verify_ports
from neti.oneshot.verify_ports import _PAIRS, _SOCKETS, PortRow, disagreement, parse_ports
from neti.stage.shadow import Listener

Run = Callable[..., Any]


class Fleet:
    """As the agent and the members tell of it. ``admitted``, ``inward``, ``outward``: by member's
    id; ``helps`` False: agents of a version before."""

    def __init__(self) -> None:
        self.admitted: dict[str, bool | tuple[bool, bool]] = {"app-1": True, "web-1": False}
        self.inward: dict[str, Outcome] = {"app-1": "answered", "web-1": "silent"}
        self.outward: dict[str, Outcome] = {"app-1": "refused", "web-1": "silent"}
        self.silent: set[str] = set()
        self.helps = True
        self.left_out: set[int] = set()  # ports that no member's answer names
        self.asked: list[int] = []  # how many members in each question to the agent
        self.dialled: list[str] = []
        self._lock, self._now, self.most = threading.Lock(), 0, 0

    @property
    def overlays(self) -> dict[str, str]:
        return {
            one: str(ip_address("192.168.0.10") + number)
            for number, one in enumerate(self.admitted)
        }

    def call(self, _folder: Path, what: str, **more: Any) -> Any:
        if what == "status":
            own = {"id": "db-1", "site": "ec2", "private": "10.0.0.5", "overlay": "192.168.0.5"}
            return {**own, "version": "1", "stage": "enforced", "registry": {"fresh": True}}
        if what == "members":
            every = {"db-1": "192.168.0.5", **self.overlays}
            return [{"id": i, "site": "ec2", "overlay": at} for i, at in every.items()]
        assert what == "explain_many"
        self.asked.append(len(more["ids"]))
        pairs = [self._pair(one, name) for one in more["ids"] for name in more["ports"]]
        return {"pairs": plain(pairs)}

    def _pair(self, host_id: str, name: str) -> Pair:
        port, _, protocol = name.partition("/")
        said = self.admitted[host_id]
        every = said if isinstance(said, tuple) else (said,)
        return Pair(
            source=host_id,
            dest="here",
            protocol=protocol,
            port=int(port),
            here=True,
            stage="enforced",
            answers=tuple(
                Answer(address=f"10.0.0.{n}", admitted=one, by=f"rule {one}")
                for n, one in enumerate(every)
            ),
        )

    def dial(self, overlay: str, ports: list[int]) -> dict[int, tuple[Outcome, float]]:
        with self._lock:
            self._now += len(ports)
            self.most = max(self.most, self._now)
        host_id = self._at(overlay)
        self.dialled.append(host_id)
        found = {port: (self.outward.get(host_id, "refused"), 0.0004) for port in ports}
        with self._lock:
            self._now -= len(ports)
        return found

    def talk(self, overlay: str, _port: int, seconds: float, *, begin: bytes) -> Said:
        host_id = self._at(overlay)
        takes = SECONDS if self.inward.get(host_id) == "silent" else 0.0
        if host_id in self.silent or seconds <= takes:
            raise TimeoutError
        said = json.loads(begin)
        assert said["id"] == "db-1"
        outcome = self.inward.get(host_id, "answered")
        named = [port for port in said["dial"] if port not in self.left_out]
        dialled = dict.fromkeys(named, outcome) if self.helps else None
        return Said(host_id, "10.0.0.5", 1500, 1500, dialled)

    def _at(self, overlay: str) -> str:
        return next(one for one, at in self.overlays.items() if at == overlay)


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    made = Fleet()
    monkeypatch.setattr(client, "call", made.call)
    monkeypatch.setattr(verify_ports, "dial", made.dial)
    monkeypatch.setattr(verify_ports, "talk", made.talk)
    return made


@pytest.fixture
def run(tmp_path: Path) -> Run:
    path = tmp_path / "neti.yml"
    path.write_text(f"registry: embedded:{tmp_path}/r.db\nsite: ec2\n")

    def verify(*words: str, code: int = 0) -> Any:
        told = CliRunner().invoke(cli, ["verify", "-c", str(path), "--ports", *words])
        assert told.exit_code == code, told.output
        return json.loads(told.stdout) if "--json" in words else told.stdout.splitlines()

    return verify


def test_both_ends_of_each_member_are_in_one_line(fleet: Fleet, run: Run) -> None:
    here, app, web, count, step = run("5432")
    assert here == "5432/tcp of db-1 (stage: enforced): no socket of this host waits there"
    assert app == (
        "app-1 → here 5432/tcp: answered; admitted, rule True · here → app-1: refused (nothing "
        "listens there, or a rule rejects)"
    )
    assert web == "web-1 → here 5432/tcp: silent; kept out, rule False · here → web-1: silent"
    assert count == (
        "5432/tcp: 1 of 2 members are admitted by this host's rules; in fact 1 answered, 1 silent; "
        "0 disagree"
    )
    assert "'neti explain db-1 here PORT' on that host says why" in step


def test_what_disagrees_comes_first_and_fails(fleet: Fleet, run: Run) -> None:
    fleet.inward = {"app-1": "answered", "web-1": "answered"}
    _, first, step, second, *_ = run("5432", code=1)
    assert first.startswith("DISAGREES  web-1 → here 5432/tcp: answered; kept out, rule False")
    assert step.startswith("  → 'neti check' says whether the kernel has the rules")
    assert second.startswith("app-1 → here")
    found = run("5432", "--json", code=1)
    assert [row["id"] for row in found["rows"]] == ["web-1", "app-1"]
    assert [bool(row["disagrees"]) for row in found["rows"]] == [True, False]


def test_what_is_not_known_is_no_success(fleet: Fleet, run: Run) -> None:
    fleet.silent = {"app-1"}
    rows = run("5432", "--json", code=3)["rows"]
    assert rows[0]["unknown"] == "its agent cannot be asked: no answer in time"
    assert (rows[0]["id"], rows[0]["inward"], rows[0]["outward"]) == ("app-1", None, "refused")
    fleet.silent, fleet.helps = set(), False
    assert "not tried: its agent is of a version before" in run("5432", code=3)[1]
    assert "nobody-1 → here 5432/tcp: not known, it is no member here" in run(
        "5432", "nobody-1", code=3
    )
    assert "db-1 → here 5432/tcp: not known, it is this host itself" in run("5432", "db-1", code=3)


def test_the_time_in_which_a_member_connects_is_waited_too(fleet: Fleet, run: Run) -> None:
    """Where it is kept out, that takes as long as it may."""
    for row in run("5432", "--timeout", "0.1", "--json")["rows"]:
        assert (row["inward"], row["unknown"]) == (fleet.inward[row["id"]], "")


def test_an_answer_that_leaves_a_port_out_is_no_earlier_version(fleet: Fleet, run: Run) -> None:
    fleet.left_out = {80}
    found = {(row["id"], row["port"]): row for row in run("80,5432", "--json", code=3)["rows"]}
    assert found["app-1", 80]["unknown"] == "its agent's answer leaves this port out"
    assert (found["app-1", 80]["inward"], found["app-1", 5432]["inward"]) == (None, "answered")


def test_where_it_depends_on_the_address_nothing_disagrees(fleet: Fleet, run: Run) -> None:
    fleet.admitted["web-1"] = (True, False)
    row = run("5432", "web-1", "--json")["rows"][0]
    assert (row["admitted"], row["disagrees"]) == (None, "")
    assert (
        row["by"]
        == "it depends on its address: from 10.0.0.0: rule True; from 10.0.0.1: rule False"
    )


def test_udp_is_predicted_and_not_tried(fleet: Fleet, run: Run) -> None:
    lines = run("53/udp")
    assert lines[1].endswith("admitted, rule True; not asked: a UDP port need not answer")
    assert fleet.dialled == []


def test_of_a_large_fleet_little_is_asked_at_once(fleet: Fleet, run: Run) -> None:
    number = 2 * (_PAIRS // 8) + 1
    fleet.admitted = {f"app-{one}": True for one in range(number)}
    names = "1,2,3,4,5,6,7,8"
    assert len(run(names, "--json")["rows"]) == 8 * number
    assert fleet.asked == [_PAIRS // 8, _PAIRS // 8, 1]
    assert 0 < fleet.most <= _SOCKETS
    assert len(fleet.dialled) == number  # each once


# --- what disagrees ---


@pytest.mark.parametrize(
    ("admitted", "inward", "listens", "wrong"),
    [
        (True, "answered", False, False),
        (True, "refused", False, False),
        (True, "refused", True, True),
        (True, "silent", True, True),
        (True, "unreachable", False, True),
        (False, "silent", True, False),
        (False, "unreachable", True, False),
        (False, "answered", True, True),
        (False, "refused", False, True),
        (None, "answered", True, False),
        (True, None, True, False),
    ],
)
def test_a_disagreement_has_a_next_step(
    admitted: bool | None, inward: Outcome | None, listens: bool, wrong: bool
) -> None:
    row = PortRow(id="a", protocol="tcp", port=80, admitted=admitted, by="a rule", inward=inward)
    said = disagreement(row, listens=listens)
    assert bool(said) == wrong
    assert "\n→ " in said or not wrong


def test_who_listens_is_named(fleet: Fleet, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what refuses although somebody listens at every address, disagrees."""
    fleet.inward["app-1"] = "refused"
    at = [
        Listener("tcp", 5432, ip_address("127.0.0.1")),
        Listener("tcp", 22, ip_address("0.0.0.0")),
    ]
    monkeypatch.setattr(verify_ports, "listeners", lambda: at)
    assert run("5432", "app-1")[0].endswith("a process on 127.0.0.1")
    at.append(Listener("tcp", 5432, ip_address("0.0.0.0")))
    assert "DISAGREES" in run("5432", "app-1", code=1)[1]


# --- the option ---


def test_ports_are_tcp_if_nothing_is_said() -> None:
    assert parse_ports("5432, 9100/tcp,53/udp,5432/tcp") == [
        ("tcp", 5432),
        ("tcp", 9100),
        ("udp", 53),
    ]


@pytest.mark.parametrize("text", ["", "0", "65536", "5432/sctp", "a", "1,2,3,4,5,6,7,8,9", "1-4"])
def test_what_is_no_port_is_refused(fleet: Fleet, run: Run, text: str) -> None:
    run(text, code=2)
    assert fleet.asked == []
