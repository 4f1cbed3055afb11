"""What a host says of itself in the registry, and how often."""

import json
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.agents import Box, World, world
from tests.unit.agent.test_agent import session_of

from neti.agent.told import Reload
from neti.errors import IdentityHeld
from neti.model.labels import MOST_LABELS, MOST_VALUE_BYTES, is_value, readable
from neti.model.problem_codes import OUT_OF_STEP
from neti.model.said import Said
from neti.registry import detail
from neti.registry.detail import MAX_CODES, MAX_LEFT, Document, Left, Order
from neti.registry.hurts import MAX_HURTS, MAX_NETWORKS, Hurt, Hurts
from neti.registry.memory import MemoryRegistry
from neti.stage.leftovers import Call
from neti.state import marks

WIDE = "\N{SNOWMAN}"
WIDEST = str(IPv6Network(((1 << 128) - 1, 128)))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def said(box: Box) -> Document:
    (held,) = box.registry.reports([box.host.id]) or []
    return detail.decode(held.document)


class Writings:
    """Of the documents that a host writes by itself, how many."""

    def __init__(self, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.stands = True
        before = box.registry.describe

        def describe(host_id: str, document: bytes, report: bytes) -> bool:
            self.count += 1
            return before(host_id, document, report) and self.stands

        monkeypatch.setattr(box.registry, "describe", describe)


def test_who_took_a_host_down_or_relaxed_it_and_until_when(fleet: World) -> None:
    """Also after a restart of its agent."""
    one = fleet.started(1, reject_all=True)
    fleet.pass_time(1)
    assert (said(one).down, said(one).relaxed) == (None, None)
    now = int(fleet.clock.wall())
    one.ask("relax", until=fleet.clock.wall() + 3600)
    fleet.pass_time(15)
    relaxed = said(one).relaxed
    assert relaxed is not None
    assert relaxed.at is not None
    assert relaxed.at == pytest.approx(now, abs=2)
    assert relaxed.until == pytest.approx(relaxed.at + 3600, abs=2)
    one.ask("down")
    fleet.pass_time(1)
    down = said(one).down
    assert down is not None
    assert down.at == pytest.approx(fleet.clock.wall(), abs=3)
    one.stop()
    one.start()
    fleet.pass_time(1)
    assert said(one).down == down
    one.ask("up")
    fleet.pass_time(1)
    assert said(one).down is None


def test_what_a_registration_writes_does_not_say_that_there_is_none(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an outage each host would look as if something were wrong, until it writes again."""
    one = fleet.started(1)
    fleet.pass_time(1)
    before, answers, written = one.registry.register, False, list[Document]()

    def register(**asked: Any) -> bool:
        if not answers:
            raise IdentityHeld("ec2-1 is registered by pid 7")
        written.append(detail.decode(asked["report"]))
        return before(**asked)

    monkeypatch.setattr(one.registry, "register", register)
    fleet.server.expire(session_of(one))
    for _ in range(24):
        fleet.pass_time(10)
    assert {"registration", "clone"} <= one.problems().keys()
    one.running.core.problems.set("disk", "it is full")
    answers = True
    fleet.pass_time(60)
    assert one.status()["registered"]
    assert [said.problems for said in written] == [("disk",)]
    assert said(one).problems == ("disk",)


def test_what_an_earlier_session_said_is_written_over_when_that_is_over(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody hears anything of the host for ten minutes."""
    one = fleet.started(1)
    fleet.pass_time(1)
    register = one.registry.register
    monkeypatch.setattr(one.registry, "register", lambda **asked: register(**asked) and False)
    fleet.server.expire(session_of(one))
    fleet.pass_time(2)
    writings = Writings(one, monkeypatch)
    writings.stands = False
    for _ in range(4):
        fleet.pass_time(9)
    assert (before := writings.count) > 1
    writings.stands = True
    for _ in range(12):
        fleet.pass_time(10)
    assert writings.count == before + 1


def test_an_outage_leaves_a_host_the_words_that_it_has(fleet: World) -> None:
    one = fleet.started(1)
    fleet.pass_time(100)
    fleet.server.stop()
    one.running.core.problems.set("disk", "it is full")
    for _ in range(30):
        fleet.pass_time(10)
    fleet.server.start()
    for number, code in enumerate(("state", "responder", "identity"), 1):
        fleet.pass_time(12)
        assert len(said(one).problems or ()) == number
        one.running.core.problems.set(code, "something is wrong")


def call(to: str, port: int, packets: int = 1) -> Call:
    key = f"{to}:{port}".encode()
    return Call(key, IPv4Address(to), "tcp", port, packets, 0.0, user=7)


def test_another_call_by_a_real_address_is_told_soon(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself: nobody waits ten minutes to see that a program was forgotten. More of the same is
    no reason to write."""
    one = fleet.started(1)
    fleet.started(2)
    fleet.pass_time(100)
    assert said(one).left == ()
    one.dataplane.called = [call("10.0.0.2", 5432)]
    fleet.pass_time(25)
    (left,) = said(one).left or ()
    assert (left.to, left.port, left.calls) == ("ec2-2", "5432/tcp", 1)
    writings = Writings(one, monkeypatch)
    one.dataplane.called = [call("10.0.0.2", 5432, packets=900)]
    fleet.pass_time(120)
    assert writings.count == 0
    one.dataplane.called = [call("10.0.0.2", 5432, packets=900), call("10.0.0.2", 80)]
    fleet.pass_time(25)
    assert {one.port for one in said(one).left or ()} == {"5432/tcp", "80/tcp"}
    assert writings.count == 1


@pytest.mark.parametrize("members", [1000, 5000, 7600, 10_000, 16_000])
def test_new_calls_do_not_have_a_large_fleet_write_all_the_time(
    fleet: World, monkeypatch: pytest.MonkeyPatch, members: int
) -> None:
    """A program that calls another port each time: all hosts of it write 30 times a second at most,
    with what they write anyway."""
    one = fleet.started(1)
    fleet.started(2)
    fleet.pass_time(100)
    monkeypatch.setattr(one.running.registration.describing, "_members", lambda: members)
    writings = Writings(one, monkeypatch)
    for step in range(140):
        if step == 20:  # the first one may be told at once
            writings.count = 0
        one.dataplane.called = [call("10.0.0.2", port) for port in range(1, step + 2)]
        fleet.pass_time(30)
    assert members * writings.count / 3600 < 30


def test_what_was_told_once_is_not_told_again(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a move a host calls dozens, and a report has room for twelve: others are the latest
    each time. Other changes are told all the while."""
    one = fleet.started(1)
    fleet.started(2)
    ports = range(1, 31)
    one.dataplane.called = [call("10.0.0.2", port) for port in ports]
    fleet.pass_time(700)
    writings = Writings(one, monkeypatch)
    for step in range(50):
        idle = [(port + step * 7) % 30 for port in ports]
        one.dataplane.called = [
            replace(call("10.0.0.2", port, packets=step + 2), idle=float(ago))
            for port, ago in zip(ports, idle, strict=True)
        ]
        fleet.pass_time(10)
    assert writings.count <= 30 // MAX_LEFT + 1 + 1  # each once, and the count of ten minutes
    one.running.core.problems.set("lease_changed", "it is another one")
    fleet.pass_time(15)
    assert "lease_changed" in (said(one).problems or ())


def test_a_word_that_no_agent_heard_is_told_with_when_it_was_said_and_when_it_ends(
    fleet: World,
) -> None:
    """As of the word, not of the agent's start."""
    one = fleet.started(1, reject_all=True)
    fleet.pass_time(1)
    folder = one.settings.table_files_path
    one.stop()
    at = fleet.clock.wall()
    marks.leave(folder, marks.RELAXED, Said(at=at, by="amir", until=at + 14_400))
    fleet.pass_time(3600)
    one.start()
    fleet.pass_time(1)
    assert said(one).relaxed == Order(by="amir", at=int(at), until=int(at + 14_400))
    one.stop()
    at = fleet.clock.wall()
    marks.leave(folder, marks.DOWN, Said(at=at, by="amir"))
    fleet.pass_time(3600)
    one.start()
    fleet.pass_time(1)
    assert said(one).down == Order(by="amir", at=int(at))


def test_the_end_of_a_time_is_told_by_the_clock_as_it_is(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sets it makes the time no longer. What only follows the clock waits for the next
    writing."""
    one = fleet.started(1, reject_all=True)
    fleet.pass_time(60)
    one.ask("relax", until=fleet.clock.wall() + 14_400)
    fleet.pass_time(15)
    until = said(one).relaxed
    assert until is not None
    assert until.until is not None
    writings = Writings(one, monkeypatch)
    fleet.clock.set -= 7200
    fleet.pass_time(30)
    assert writings.count == 0
    for _ in range(20):
        fleet.pass_time(30)
    relaxed = said(one).relaxed
    assert relaxed is not None
    assert relaxed.until == until.until - 7200


def test_labels_come_with_the_reload(fleet: World) -> None:
    one = fleet.started(1)
    fleet.pass_time(1)
    one.new_settings = replace(one.settings, labels={"tier": "db"})
    one.running.tell(Reload())
    fleet.pass_time(1)
    assert said(one).labels == {"tier": "db"}


def test_a_host_to_which_nothing_happens_writes_once_in_nine_minutes(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with the time of its writing; 16,000 of them are under 30 writes a second so."""
    one = fleet.started(1)
    fleet.pass_time(60)
    writings = Writings(one, monkeypatch)
    for _ in range(18):
        fleet.pass_time(300)
        written = said(one).written
        assert written is not None
        assert fleet.clock.wall() - written < 600
    assert 16_000 * writings.count / (18 * 300) < 30
    assert writings.count > 0


def test_problems_that_come_and_go_use_up_the_words(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is true in the end is told all the same."""
    one = fleet.started(1)
    fleet.pass_time(60)
    writings = Writings(one, monkeypatch)
    for number in range(60):
        (_clear, _set)[number % 2](one)
        fleet.pass_time(10)
    assert writings.count <= 4 + 10 + 2  # ten minutes, and written anew
    assert writings.count >= 8
    _clear(one)
    fleet.pass_time(130)
    assert said(one).problems == ()


def _clear(box: Box) -> None:
    box.running.core.problems.clear("lease_changed")


def _set(box: Box) -> None:
    box.running.core.problems.set("lease_changed", "it is another one")


def test_one_problem_is_told_within_seconds(fleet: World) -> None:
    one = fleet.started(1)
    fleet.pass_time(60)
    one.running.core.problems.set("lease_changed", "it is another one")
    fleet.pass_time(11)
    assert said(one).problems == ("lease_changed",)


def test_in_a_large_fleet_a_change_waits_for_its_turn(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens to all at once is not written by all at once. The stage does not wait."""
    one = fleet.started(1)
    fleet.pass_time(60)
    describing = one.running.registration.describing
    monkeypatch.setattr(describing, "_members", lambda: 16_000)
    monkeypatch.setattr(one.running.core.out, "chance", lambda below: below - 1)
    one.running.core.problems.set("lease_changed", "it is another one")
    fleet.pass_time(12)
    assert said(one).problems == ()
    fleet.pass_time(16)
    assert said(one).problems == ("lease_changed",)
    one.ask("down")
    fleet.pass_time(1)
    assert said(one).stage == "down"


# A quote and a backslash take two bytes each in JSON; then letters of one to four bytes, and one
# that is shown as an escape.
HOSTILE = ['"', "\\", "a", "\N{LATIN SMALL LETTER E WITH ACUTE}", WIDE, "\U0001f525", "\u2028"]
LARGEST = Document(
    pid=2**32 - 1,
    version="1" * 32,
    installed="source",
    stage="s" * 16,
    encryption="e" * 16,
    tunnel_port=65_535,
    member_ports="m" * 16,
    gateways="a" * 12,
    openings=2**32 - 1,
    config_read=2**37,
    config_unread=2**37,
    hurts=Hurts(
        ports=2**32,
        sources=2**32,
        at=(Hurt(port="65535/udplite", sources=2**32, networks=(WIDEST,) * MAX_NETWORKS),)
        * MAX_HURTS,
        since=2**37,
    ),
    left=(Left(to="i" * 40, port="65535/udplite", calls=2**32, last=2**37),) * MAX_LEFT,
    written=2**37,
)
CODES = tuple(
    sorted(
        f"{n:02}".translate({48 + d: 97 + d for d in range(10)}) + "c" * 30
        for n in range(MAX_CODES)
    )
)


def test_what_every_member_may_read_says_who_a_host_is_and_not_how_it_is(fleet: World) -> None:
    one = fleet.started(1, reject_all=True, labels={"tier": "db"})
    (read,) = [detail.decode(each.document) for each in one.registry.details()]
    whole = said(one)
    assert read == Document(
        name=whole.name,
        pid=whole.pid,
        version=whole.version,
        installed=whole.installed,
        labels=whole.labels,
        written=whole.written,
    )
    assert dict(read.labels) == {"tier": "db"}
    assert whole.stage
    assert whole.problems is not None


def test_the_largest_document_has_less_than_4_kib() -> None:
    """And is read as it was written. What matters least gives way, the largest part of it first;
    what a gate goes by never."""
    order = Order(by=WIDE * 64, at=2**37, until=2**37)
    whole = replace(LARGEST, name=WIDE * 64, problems=CODES, down=order, relaxed=order)
    labels = {f"l{number:031}": "v" * 64 for number in range(99)}
    read = detail.decode(detail.encode(replace(whole, labels=labels)))
    assert read.down == order
    assert read.name == whole.name
    assert len(read.labels) == MOST_LABELS
    read = detail.decode(detail.encode(whole))
    assert whole.left is not None
    assert whole.hurts is not None
    assert read.hurts is not None
    assert 0 < len(read.hurts.at) < MAX_HURTS  # as many as have room
    kept = replace(whole.hurts, at=whole.hurts.at[: len(read.hurts.at)])
    assert read == replace(whole, left=None, left_more=MAX_LEFT, hurts=kept)
    least = replace(whole, hurts=replace(kept, at=()))
    read = detail.decode(detail.encode(least))
    assert read.left  # as many as have room
    kept_calls = len(read.left)
    left = whole.left[:kept_calls]
    assert read == replace(least, left=left, left_more=MAX_LEFT - kept_calls or None)


@pytest.mark.parametrize("letter", HOSTILE)
def test_no_letter_makes_it_larger(letter: str) -> None:
    order = Order(by=letter * 64, at=2**37, until=2**37)
    value = letter * (MOST_VALUE_BYTES // len(letter.encode()))
    labels = {f"l{number:031}": value for number in range(MOST_LABELS)}
    whole = replace(
        LARGEST, name=letter * 64, problems=CODES, down=order, relaxed=order, labels=labels
    )
    written = detail.encode(whole)
    assert len(written) < 4096
    read = detail.decode(written)
    assert read.labels == (labels if is_value(value) else {})
    assert read.problems == CODES
    assert read.left != ()  # none has room, or some have: but never that there is none
    kept = (read.relaxed, read.down, read.hurts, read.written)
    assert [one is not None for one in kept] == [True] * 4
    assert _bare(read) == _bare(replace(whole, labels=read.labels))


def _bare(document: Document) -> Document:
    hurts = replace(document.hurts, at=()) if document.hurts is not None else None
    none = replace(document, name="", left=None, left_more=None, down=None, relaxed=None)
    return replace(none, hurts=hurts)


LONG = st.sampled_from(HOSTILE).map(lambda letter: letter * (64 // len(letter.encode())))
TEXTS = LONG | st.text(st.sampled_from(HOSTILE), max_size=70)


@given(
    names=st.tuples(TEXTS, TEXTS, TEXTS),
    most=LONG,
    others=st.lists(TEXTS, max_size=5),
    codes=st.sampled_from([MAX_CODES, 1, 0]),
    left=st.integers(0, MAX_LEFT),
)
def test_whatever_a_host_is_called_its_document_has_less_than_4_kib(
    names: tuple[str, str, str], most: str, others: list[str], codes: int, left: int
) -> None:
    assert LARGEST.left is not None
    values = [*others, *[most] * MOST_LABELS][:MOST_LABELS]
    labels = {f"l{number:031}": value for number, value in enumerate(values)}
    whole = replace(
        LARGEST,
        name=names[0],
        down=Order(by=names[1]),
        relaxed=Order(by=names[2]),
        labels=labels,
        problems=CODES[:codes],
        left=LARGEST.left[:left],
    )
    written = detail.encode(whole)
    assert len(written) < 4096
    read = detail.decode(written)
    assert read.labels == readable(labels)
    assert read.problems == CODES[:codes]
    assert (read.left == ()) is (left == 0)


def test_of_many_problems_those_are_told_that_keep_a_host_from_being_in_step() -> None:
    """Else it would pass a gate by having more of them than are told."""
    assert max(OUT_OF_STEP) > "b"
    read = detail.decode(detail.encode(Document(problems=(*CODES, max(OUT_OF_STEP)))))
    assert max(OUT_OF_STEP) in (read.problems or ())


@pytest.mark.parametrize(
    "bad",
    [
        ["8080/tcp", 1, ["10.0.0.1/24"]],  # no network
        ["8080/tcp", 1, ["10.0.0.0/24"] * (MAX_NETWORKS + 1)],
        ["8080/tcp", 1, "10.0.0.0/24"],
        ["8080/tcp", 1, [5]],
        ["8080/tcp", 1, ["fe80::%\x1b[31m/128"]],  # Python takes any text for a scope
        ["0053/udp", 1, []],  # one port, and two lines for it
        ["8080/tcp", 0, None],
        ["99999/tcp", 1, None],
        ["$(reboot)/tcp", 1, []],
        ["8080/tcp", 1],
        "8080/tcp",
    ],
)
def test_where_it_hurts_is_read_whole_or_not_at_all(bad: object) -> None:
    """Of networks that are left out a line would say that everybody is to be let in."""
    good = ["53/udp", 2, ["10.0.0.0/24"]]
    raw = {"hurts": {"ports": 2, "sources": 3, "at": [bad, good]}}
    read = detail.decode(json.dumps(raw).encode())
    assert read.hurts == Hurts(
        ports=2, sources=3, at=(Hurt(port="53/udp", sources=2, networks=("10.0.0.0/24",)),)
    )


@pytest.mark.parametrize(
    ("said", "read"),
    [(0, 0), (1_800_000_000, 1_800_000_000), (-1, None), (1 << 40, None), ("1", None)],
)
def test_since_when_it_watches_is_a_time_or_not_known(said: object, read: int | None) -> None:
    raw = {"hurts": {"ports": 0, "sources": 0, "since": said}}
    found = detail.decode(json.dumps(raw).encode()).hurts
    assert found == Hurts(ports=0, sources=0, since=read)


def test_a_port_that_is_told_twice_counts_once() -> None:
    at = [["53/udp", 2, ["10.0.0.0/24"]], ["53/udp", 9, []]]
    read = detail.decode(json.dumps({"hurts": {"ports": 2, "sources": 3, "at": at}}).encode())
    assert read.hurts is not None
    assert [one.sources for one in read.hurts.at] == [2]


def test_what_another_host_says_is_no_free_text() -> None:
    hostile = {
        "format": 99,
        "labels": {"tier": "a\x1b[31m", "UP": "x", "ok": "fine", "n": 5, "long": "v" * 65},
        "down": {"by": "root\nroot", "at": -1, "until": True},
        "hurts": {"ports": "many"},
        "written": 1e300,
        "config_unread": [],
        "what-is-new": 1,
    }
    read = detail.decode(json.dumps(hostile).encode())
    assert read.labels == {"ok": "fine"}
    assert read.down is not None
    assert "\n" not in read.down.by
    assert (read.down.at, read.down.until) == (None, None)
    assert (read.hurts, read.written, read.config_unread) == (None, None, None)


def test_an_operators_word_is_answered_once_at_a_moment_of_its_own(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the word that stood there when the agent began, and not one that is told again."""
    operator = MemoryRegistry(fleet.server)
    operator.change_setting("asked", b"1")
    one = fleet.started(1)
    fleet.pass_time(60)
    fleet.pass_time(20)
    writings = Writings(one, monkeypatch)
    describing = one.running.registration.describing
    monkeypatch.setattr(describing, "_members", lambda: 100)
    monkeypatch.setattr(one.running.core.out, "chance", lambda below: below - 1)
    fleet.server.cut()
    fleet.server.restore()
    fleet.pass_time(31)
    assert writings.count == 0
    operator.change_setting("asked", b"2")
    fleet.pass_time(1)
    for _ in range(14):
        fleet.pass_time(2)
    assert writings.count == 0
    fleet.pass_time(2)
    assert writings.count == 1
    fleet.pass_time(60)
    assert writings.count == 1


def test_a_host_that_is_relaxed_for_a_time_says_so_whatever_its_file_asks_for(
    fleet: World,
) -> None:
    """It goes on trial by itself. Relaxed for good it is a host in shadow."""
    one = fleet.started(1)
    fleet.pass_time(1)
    one.ask("relax", until=fleet.clock.wall() + 3600)
    fleet.pass_time(15)
    assert said(one).relaxed is not None
    one.ask("relax")
    fleet.pass_time(15)
    assert said(one).relaxed is None
