"""The order in which ZooKeeper's answers become events, with a client that only writes down."""

import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import Any

import pytest
from kazoo.exceptions import ConnectionLoss, NoAuthError, NoNodeError
from kazoo.protocol.serialization import Exists, GetData
from kazoo.protocol.states import KeeperState, ZnodeStat

from neti import threads
from neti.registry import (
    SETTING_NAMES,
    DataRead,
    Event,
    Fresh,
    HostRead,
    LeaseRead,
    Origin,
    SettingRead,
    Snapshot,
    Stale,
)
from neti.registry.record import HostId
from neti.registry.zookeeper.layout import Layout
from neti.registry.zookeeper.requests import CHANGED, CREATED, ListNames, MultiRead, Stat
from neti.registry.zookeeper.stream import Stream

LAYOUT = Layout.below(
    "/neti",
    iptoid="ip-to-id",
    idtoip="id-to-ip",
    ip_map="ip-map",
    interval="interval",
    maxchange="maxchange",
)


PARENT = ZnodeStat(1, 2, 0, 0, 0, 7, 0, 0, 8, 0, 0)


class Client:
    session = (1, b"password")
    seen = 0

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.then: list[Callable[[Any], None]] = []

    def submit(self, request: Any, then: Callable[[Any], None]) -> None:
        self.asked.append(request)
        self.then.append(then)


def test_a_setting_that_changes_before_the_list_is_read_behind_it() -> None:
    """A release is about those who are gone: who hears of it first does not know them."""
    told: list[Event] = []
    stream, client = Stream(LAYOUT), Client()
    stream.attach(client)
    stream.watch(told.append, hosts=False)
    stream._list.cversion = 5  # an earlier connection's list
    stream.on_state(KeeperState.CONNECTED)
    stream.on_event(CHANGED, LAYOUT.release)
    assert LAYOUT.release not in [one.path for one in client.asked if isinstance(one, GetData)]
    assert told == []


NODE = (b"10.0.0.1", ZnodeStat(1, 2, 0, 0, 0, 0, 0, 0, 8, 0, 0))


def connected() -> tuple[Stream, Client, list[Event]]:
    told: list[Event] = []
    stream, client = Stream(LAYOUT), Client()
    stream.attach(client)
    stream.watch(told.append, hosts=False)
    stream.on_state(KeeperState.CONNECTED)
    client.asked.clear()
    client.then.clear()
    return stream, client, told


@pytest.mark.parametrize("asked", [GetData, Exists, ListNames])
def test_what_zookeeper_refuses_for_a_while_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, asked: type
) -> None:
    """Rights that somebody got wrong and set right make no event, and the connection stays."""
    later: list[Callable[[], object]] = []
    monkeypatch.setattr(threads, "begin", later.append)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    told: list[Event] = []
    stream, client = Stream(LAYOUT), Client()
    stream.attach(client)
    stream.watch(told.append, hosts=False)
    stream.on_state(KeeperState.CONNECTED)
    _answer(client, refused=asked)
    assert isinstance(told[-1], Stale)
    assert len(later) == 1
    assert not [event for event in told if isinstance(event, Snapshot)]
    later.pop()()
    _answer(client)
    assert [event.origin for event in told if isinstance(event, Snapshot)] == [Origin("f1", 7)]
    assert isinstance(told[-1], Fresh)
    assert not later


def test_where_no_thread_is_left_to_wait_in_the_list_is_read_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a gap agents spread out, each by a timer. Without one nothing would ever read it."""

    def none_left(run: Callable[[], object]) -> None:
        raise RuntimeError("can't start new thread")

    told: list[Event] = []
    stream, client = Stream(LAYOUT), Client()
    stream.attach(client)
    stream.watch(told.append, hosts=False)
    stream._list.cversion = 5  # an earlier connection's list
    stream.on_state(KeeperState.CONNECTED)
    monkeypatch.setattr(threads, "begin", none_left)
    _answer(client)
    assert isinstance(told[-1], Fresh)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a random time is done now."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(threads, "begin", lambda run: run())


def _answer(
    client: Client,
    refused: type | None = None,
    *,
    parent: ZnodeStat = PARENT,
    names: Sequence[str] = (),
    fleet: bytes = b"f1",
) -> list[Any]:
    """All requests, which it returns; those about the tree of the kind ``refused`` are not
    allowed. ``parent``: what the list's parent is like."""
    node, asked = parent, []
    while client.asked:
        request, then = client.asked.pop(0), client.then.pop(0)
        asked.append(request)
        if isinstance(request, MultiRead):
            then([NODE for _ in request.paths])
            continue
        about_tree = request.path in (LAYOUT.fleet, LAYOUT.ip_map)
        if refused is not None and isinstance(request, refused) and about_tree:
            then(NoAuthError())
        elif isinstance(request, GetData):
            then((fleet, node) if request.path == LAYOUT.fleet else NoNodeError())
        elif isinstance(request, ListNames):
            then((list(names), Stat(*node)))
        else:
            then(node)
    return asked


def test_questions_that_wait_go_together_and_are_answered_in_their_order() -> None:
    stream, client, told = connected()
    names = [f"n{number}" for number in range(1_000)]
    stream.ask(names)
    sizes = []
    while client.asked:
        assert len(client.asked) <= 4
        request, then = client.asked.pop(0), client.then.pop(0)
        assert isinstance(request, MultiRead)
        sizes.append(len(request.paths))
        then([NODE for _ in request.paths])
    assert [event.name for event in told if isinstance(event, DataRead)] == names
    assert sizes == [128] * 7 + [104]


def test_a_question_that_comes_alone_goes_at_once_and_those_that_follow_wait_for_few() -> None:
    stream, client, _ = connected()
    for number in range(10):
        stream.ask([f"n{number}"])
    assert [len(request.paths) for request in client.asked] == [1, 1, 1, 1]
    client.then[0]([NODE])
    assert [len(request.paths) for request in client.asked] == [1, 1, 1, 1, 6]


def test_what_is_asked_about_a_few_overtakes_what_is_asked_about_all() -> None:
    stream, client, told = connected()
    stream.ask([f"n{number}" for number in range(1_000)])
    stream.ask([HostId("a"), IPv4Address("192.168.0.1")])
    for _ in range(5):
        client.then.pop(0)([NODE for _ in client.asked.pop(0).paths])
    assert len(told) <= 640
    assert HostRead("a", None, 2) in told
    assert LeaseRead(IPv4Address("192.168.0.1"), "10.0.0.1") in told


def test_a_node_that_is_not_there_or_not_to_be_read_keeps_no_other_from_being_told() -> None:
    stream, client, told = connected()
    stream.ask(["gone", HostId("closed"), "there"])
    client.then[0]([NoNodeError(), NoAuthError(), NODE])
    assert told == [DataRead("gone", None), HostRead("closed", None), DataRead("there", NODE[0])]


def test_an_answer_that_is_lost_with_the_connection_is_not_told() -> None:
    stream, client, told = connected()
    stream.ask([f"n{number}" for number in range(1_000)])
    stream.on_state(KeeperState.CONNECTING)
    for then in client.then[:4]:
        then(ConnectionLoss())
    assert not [event for event in told if isinstance(event, DataRead)]
    stream.on_state(KeeperState.CONNECTED)
    client.asked.clear()
    stream.ask(["n"])
    assert [request.paths for request in client.asked] == [(LAYOUT.name("n"),)]


def test_with_everything_known_again_it_is_said_whether_questions_were_lost() -> None:
    told: list[Event] = []
    stream, client = Stream(LAYOUT), Client()
    stream.attach(client)
    stream.watch(told.append, hosts=False)

    def unanswered() -> bool:
        stream.on_state(KeeperState.CONNECTED)
        _answer(client)
        assert isinstance(told[-1], Fresh)
        return told[-1].unanswered

    assert not unanswered()
    stream.on_state(KeeperState.CONNECTING)
    assert not unanswered()
    stream.ask(["on its way"])
    stream.on_state(KeeperState.CONNECTING)
    client.asked.pop()
    client.then.pop()(ConnectionLoss())
    assert unanswered()
    stream.on_state(KeeperState.CONNECTING)
    stream.ask(["without a connection"])
    assert unanswered()
    stream.on_state(KeeperState.CONNECTING)
    assert not unanswered()


NAMES = [f"n{number}" for number in range(1_000)]


def after_a_gap(*, cversion: int, pzxid: int, names: list[str] = NAMES) -> list[str]:
    """What is read after one, of a list that was at version 7, last changed by step 20 (which an
    event told between the answers 19 and 22), if the list then is like this."""
    told: list[Event] = []
    stream, client = Stream(LAYOUT), Client()
    stream.attach(client)
    stream.watch(told.append, hosts=False)
    client.seen = 18
    stream.on_state(KeeperState.CONNECTED)
    _answer(client, parent=ZnodeStat(1, 2, 0, 0, 0, 6, 0, 0, 8, 0, 18), names=names)
    assert [type(event) for event in told] == [Snapshot, *[SettingRead] * len(SETTING_NAMES), Fresh]
    client.seen = 19
    stream.on_event(CREATED, LAYOUT.name("joined"))
    stream.ask(["joined"])
    client.seen = 22
    _answer(client)
    stream.on_state(KeeperState.CONNECTING)
    stream.on_state(KeeperState.CONNECTED)
    client.seen = 30
    told.clear()
    asked = _answer(client, parent=ZnodeStat(1, 2, 0, 0, 0, cversion, 0, 0, 8, 0, pzxid))
    assert isinstance(told[-1], Fresh)
    return ["list" for request in asked if isinstance(request, ListNames)]


def test_another_fleets_settings_are_told_even_if_they_are_the_same() -> None:
    """What was held as another registry's may be right from now on."""
    told: list[Event] = []
    stream, client = Stream(LAYOUT), Client()
    stream.attach(client)
    stream.watch(told.append, hosts=False)
    counts = []
    for fleet in (b"f1", b"f1", b"f2", b"f2"):
        told.clear()
        stream.on_state(KeeperState.CONNECTED)
        _answer(client, fleet=fleet)
        stream.on_state(KeeperState.CONNECTING)
        counts.append([type(event) for event in told].count(SettingRead))
    assert counts == [len(SETTING_NAMES), 0, len(SETTING_NAMES), 0]


def test_a_long_list_is_not_read_again_if_nothing_was_missed(at_once: None) -> None:
    assert after_a_gap(cversion=7, pzxid=20) == []
    assert after_a_gap(cversion=7, pzxid=22) == []  # between the same answers
    assert after_a_gap(cversion=8, pzxid=30) == ["list"]


@pytest.mark.parametrize("pzxid", [19, 23, 12])
def test_as_many_changes_in_an_older_copy_are_other_changes(at_once: None, pzxid: int) -> None:
    """Hosts that registered since the copy was made do so again, and the count is as it was."""
    assert after_a_gap(cversion=7, pzxid=pzxid) == ["list"]


def test_a_short_list_is_read_after_every_gap() -> None:
    assert after_a_gap(cversion=7, pzxid=20, names=NAMES[:100]) == ["list"]


def test_each_gap_is_told_though_it_begins_like_the_one_before() -> None:
    told: list[Event] = []
    stream, client = Stream(LAYOUT), Client()
    stream.attach(client)
    stream.watch(told.append, hosts=False)
    for _ in range(2):
        stream.on_state(KeeperState.CONNECTED)
        stream.on_state(KeeperState.CONNECTING)
    assert [type(event) for event in told] == [Stale, Stale]


def test_what_is_too_long_together_is_asked_one_after_another_in_order() -> None:
    stream, client, told = connected()
    names = [f"n{number}" for number in range(200)]
    stream.ask(names)
    assert [len(request.paths) for request in client.asked] == [128, 72]
    client.asked.pop(0), client.then.pop(0)(None)
    for number in range(128):
        request, then = client.asked.pop(), client.then.pop()
        assert isinstance(request, GetData)
        then(NoNodeError() if number == 5 else NODE)
    assert [len(request.paths) for request in client.asked] == [72]
    assert [event.name for event in told if isinstance(event, DataRead)] == names[:128]
    assert told[5] == DataRead("n5", None)
    client.then[0]([NODE] * 72)
    assert len(told) == 200
