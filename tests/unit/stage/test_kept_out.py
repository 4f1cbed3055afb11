"""Whom member_ports keep out, and the smallest ones that fit what was seen."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.config import load
from neti.model.groups import EVERY_MEMBER, MemberPort, MemberPorts
from neti.model.settings import OpenPort
from neti.ruleset.member_ports import admits, covers, reached_by, same
from neti.stage.kept_out import (
    Around,
    Others,
    Peer,
    commands_of,
    fitting,
    kept_out,
    row_lines,
    since,
    suggested,
    text_of,
    unanswered,
)
from neti.stage.preview import View
from neti.stage.record import Record
from neti.stage.shadow import Listener, Port, Sighting

POSTGRES: Port = ("tcp", 5432)
APP = frozenset({"app"})
DB: tuple[MemberPort, ...] = (MemberPort(("app",), "tcp", 5432, 5432), MemberPort(("ops",)))
LISTENING = (Listener("tcp", 5432, ip_address("0.0.0.0")),)
A, B, C = (ip_address(f"10.0.0.{number}") for number in (1, 2, 3))
EVERYBODY = Others(a=APP, b=frozenset({"web"}), c=frozenset({"web", "ops"}), d=frozenset())


def recorded(*came: tuple[str, int], protocol: str = "tcp", at: float = 10.0) -> Record:
    """(source, port), three packets each."""
    record = Record(0.0)
    record.take([Sighting(ip_address(s), protocol, port, 3, 0.0) for s, port in came], at)
    return record


def around(ports: MemberPorts = DB, **view: Any) -> Around:
    return Around(
        peers={
            A.packed: (Peer("a", APP),),
            B.packed: (Peer("b", EVERYBODY["b"]),),
            C.packed: (Peer("c", EVERYBODY["c"]), Peer("d", frozenset())),
        },
        ports=ports,
        always=frozenset({("tcp", 7077)}),
        view=View(**{"listening": LISTENING, "now": 20.0, **view}),
        everybody=EVERYBODY,
    )


def test_only_members_that_no_group_lets_in_are_shown() -> None:
    """Who shares an address with one that is let in is let in as well. Strangers are not these."""
    record = recorded(
        *((str(one), 5432) for one in (A, B, C, ip_address("10.0.0.99"))), (str(B), 7077)
    )
    (row,) = kept_out(record, around())
    assert row.port == POSTGRES
    assert [one.id for one in row.kept] == ["b"]
    assert row.kept[0].groups == ("web",)
    assert row.answered
    assert row.words() == "5432/tcp (1 member, b for one)"
    assert [row.listeners for row in kept_out(recorded((str(B), 80)), around())] == [()]


@pytest.mark.parametrize(
    "view",
    [
        {"trusted": (ip_network("10.0.0.2/32"),)},
        {"opened": (OpenPort(5432, 5432, "tcp"),)},
        {"opened": (OpenPort(5432, 5432, "tcp", sources=(ip_network("10.0.0.0/8"),)),)},
        {"way_in": (OpenPort(5432, 5432, "tcp", sources=(ip_network("10.0.0.0/8"),)),)},
    ],
)
def test_whoever_is_let_in_like_a_stranger_is_not_kept_out(view: dict[str, Any]) -> None:
    assert len(kept_out(recorded((str(B), 5432)), around())) == 1
    assert kept_out(recorded((str(B), 5432)), around(**view)) == []


def test_answers_and_times() -> None:
    record = recorded((str(B), 5432), (str(B), 80))
    rows = kept_out(record, around())
    assert [row.port for row in rows] == [POSTGRES, ("tcp", 80)]
    assert [row.port for row in unanswered(rows)] == [POSTGRES]  # nothing listens at the other
    assert unanswered(kept_out(record, around(accepted={POSTGRES: 1.0}))) == []
    assert len(since(rows, 10.0)) == 2
    assert since(rows, 10.5) == []


def test_what_has_no_port_is_for_groups_of_all() -> None:
    record = Record(0.0)
    record.take([Sighting(B, "gre", 0, 3, 0.0), Sighting(C, "gre", 0, 3, 0.0)], 10.0)
    (row,) = kept_out(record, around())
    assert {one.id for one in row.kept} == {"b"}
    assert row_lines(row, DB, around()) == (None, ())


def test_the_groups_that_fit_are_no_wider_than_need_be() -> None:
    assert fitting({"a"}, EVERYBODY) == (("app",), frozenset())
    assert fitting({"b", "c"}, EVERYBODY) == (("web",), frozenset())
    # One of two is not most of them.
    assert fitting({"b"}, EVERYBODY) == ((), frozenset({"b"}))
    assert fitting({"a", "b", "c"}, EVERYBODY) == (("app", "web"), frozenset())
    assert fitting(EVERYBODY, EVERYBODY) == ((EVERY_MEMBER,), frozenset())
    assert fitting({"a", "d"}, EVERYBODY) == (("app",), frozenset({"d"}))


def test_lines_to_paste() -> None:
    record = recorded((str(B), 5432), (str(B), 8000), (str(B), 8001), (str(C), 8001))
    seen = around(DB[:1], listening=listening("tcp", 5432, 8000, 8001))
    rows = kept_out(record, seen)
    made = suggested(DB, rows, seen)
    assert text_of(made.ports) == [
        "member_ports:",
        "  5432/tcp: [app, uses-5432-tcp]",
        "  8000/tcp: [uses-5432-tcp]",
        "  8001/tcp: [web, uses-8001-tcp]",
        "  all: [ops]",
    ]
    assert commands_of(made) == (
        "neti group set uses-5432-tcp b",
        "neti group set uses-8001-tcp d",
    )
    again = suggested(DB, rows, replace(seen, defined=frozenset({"uses-5432-tcp", "app"})))
    assert commands_of(again)[0] == "neti group add uses-5432-tcp b"
    assert row_lines(rows[-1], DB, seen) == (
        "member_ports: {5432/tcp: [app], 8000/tcp: [uses-8000-tcp], all: [ops]}",
        ("neti group set uses-8000-tcp b",),
    )


def listening(proto: str, *ports: int) -> tuple[Listener, ...]:
    return tuple(Listener(proto, port, ip_address("0.0.0.0")) for port in ports)


def test_neighbours_of_the_same_groups_are_one_range() -> None:
    ports = range(9000, 9004)
    record = recorded(*((str(B), port) for port in ports), protocol="udp")
    seen = around(listening=listening("udp", *ports))
    seen = replace(seen, everybody=Others({**EVERYBODY, "c": frozenset()}))
    rows = kept_out(record, seen)
    assert text_of(suggested((), rows, seen).ports) == ["member_ports:", "  9000-9003/udp: [web]"]


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from([5432, 80, 81, 8050])), max_size=12
    ),
    st.sampled_from(
        [DB, (), (MemberPort(("web",), "tcp", 8000, 8100),), (MemberPort(("app",), "udp", 80, 80),)]
    ),
)
def test_what_is_suggested_admits_all_that_was_seen_and_all_that_the_file_does(
    came: list[tuple[str, int]], ports: tuple[MemberPort, ...]
) -> None:
    addresses = {name: f"10.1.0.{place}" for place, name in enumerate("abcd", 1)}
    peers = {
        ip_address(address).packed: (Peer(name, EVERYBODY[name]),)
        for name, address in addresses.items()
    }
    view = View(listening=listening("tcp", 5432, 80, 81, 8050), now=1.0)
    seen = Around(peers=peers, ports=ports, view=view, everybody=EVERYBODY)
    record = recorded(*{(addresses[name], port) for name, port in came})
    rows = kept_out(record, seen)
    made = suggested(ports, rows, seen)
    if ports:
        assert covers(made.ports, ports)
    for row in rows:
        for one in row.kept:
            groups = set(EVERYBODY[one.id]) | {
                name for name, ids in made.new.items() if one.id in ids
            }
            assert admits(made.ports, groups, *row.port)


groups_of = st.lists(
    st.sampled_from(["app", "ops", "members", "no", "on", "null", "true", "off", "e5"]),
    min_size=1,
    max_size=3,
    unique=True,
).map(tuple)
spans = st.tuples(
    st.sampled_from(["tcp", "udp"]), st.integers(1, 65535), st.integers(0, 9), groups_of
)


@given(st.lists(spans, max_size=4, unique_by=lambda one: one[:2]), groups_of)
def test_what_is_printed_can_be_pasted(
    held: list[tuple[Any, int, int, tuple[str, ...]]], always: tuple[str, ...]
) -> None:
    """Over what is there: the file then has what it had, and lets in whom the row shows. As a key
    of several lines, and as one line, whatever the groups are called."""
    lines = [MemberPort(of, proto, n, min(n + more, 65535)) for proto, n, more, of in held]
    ports = (*lines, MemberPort(tuple(name for name in always if name != "members") or ("ops",)))
    seen = around(ports)
    rows = kept_out(recorded((str(A), 5432), (str(B), 5432)), seen)
    for row in rows:
        line, commands = row_lines(row, ports, seen)
        assert line is not None
        loaded = pasted(line)
        assert covers(loaded, ports)
        made = {word for command in commands for word in command.split()[3:4]}
        for one in row.kept:
            assert admits(loaded, {*one.groups, *made}, *row.port)
        # Nothing but that port is opened.
        for port in (5431, 5433):
            assert reached_by(loaded, "tcp", port) == reached_by(ports, "tcp", port)
    made_up = suggested(ports, rows, seen).ports
    assert same(pasted("\n".join(text_of(made_up))), made_up)


def pasted(text: str) -> MemberPorts:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "neti.yml"
        path.write_text(f"registry: embedded:/tmp/neti.db\n{text}\n")
        return load(path).member_ports
