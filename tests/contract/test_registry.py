"""What every registry promises, sentence by sentence; see ``neti.registry.Registry``."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv4Network

import pytest
from tests.support.recorder import Recorder
from tests.support.worlds import World

from neti.errors import (
    IdentityHeld,
    LeaseConflict,
    NetiError,
    OverlayExhausted,
    RegistryError,
    RegistryUnavailable,
)
from neti.model import entry
from neti.model.names import Names
from neti.registry import (
    SETTING_NAMES,
    Appeared,
    DataRead,
    Detail,
    Event,
    Fresh,
    LeaseRead,
    Origin,
    Registry,
    Session,
    SessionEnded,
    SessionTaken,
    SettingRead,
    Snapshot,
    Stale,
    Vanished,
    release,
)
from neti.registry import detail as detail_document
from neti.registry.groups import MAX_BYTES as MAX_GROUPS_BYTES
from neti.registry.names import decode as decode_names
from neti.registry.names import encode as encode_names

A = "1.0a000001c6336401c0a80001.0.ec2.a"
A2 = "1.0a000063c6336401c0a80001.1.ec2.a"
B = "1+0a000002c6336402c0a80002.0.vpc.b"
LEFT = "left.0.a"
SUBNET = IPv4Network("192.168.0.0/24")


def watched(world: World, session: Session | None = None) -> tuple[Registry, Recorder]:
    registry, recorder = world.open(session), Recorder()
    registry.watch(recorder)
    recorder.until_fresh()
    return registry, recorder


def register(
    registry: Registry, name: str = A, *, host_id: str = "a", replaces: str | None = None
) -> None:
    registry.register(host_id=host_id, name=name, data=b"data", detail=b"{}", replaces=replaces)


def after_replacing(world: World, *names: str) -> tuple[str, ...]:
    """What is there when each of ``names`` has replaced the one before it: where a member may
    delete nothing, a few of them stand until the session ends."""
    return names[-1:] if world.deletes else names


# --- watching ---


def test_first_come_a_snapshot_and_all_settings_and_then_fresh(world: World) -> None:
    world.open().change_setting("interval", b"0.5")
    _, recorder = watched(world)
    assert recorder.events[0] == Snapshot(frozenset())
    settings = recorder.events[1 : 1 + len(SETTING_NAMES)]
    assert set(settings) == {
        SettingRead("interval", b"0.5"),
        *(SettingRead(name, None) for name in SETTING_NAMES if name != "interval"),
    }
    assert isinstance(recorder.events[1 + len(SETTING_NAMES)], Fresh)


def test_the_snapshot_holds_what_others_registered(world: World) -> None:
    register(world.open())
    _, recorder = watched(world)
    assert recorder.events[0] == Snapshot(frozenset({A}))


def test_a_registration_reaches_everybody_once_its_own_agent_too(world: World) -> None:
    registry, own = watched(world)
    _, other = watched(world)
    register(registry)
    for recorder in (own, other):
        recorder.until_picture(A)
        assert recorder.of(Appeared) == [Appeared(A)]


def test_every_change_is_seen_in_the_order_in_which_it_was_made(world: World) -> None:
    writer = world.open()
    _, first = watched(world)
    _, second = watched(world)
    expected: list[Appeared | Vanished] = []
    previous = None
    for number in range(30):
        name = f"1.{number:024x}.0.ec2.a"
        register(writer, name, replaces=previous)
        expected += [Appeared(name)]
        if previous is not None and world.deletes:
            expected += [Vanished(previous)]
        previous = name
    for recorder in (first, second):
        # Where nobody may delete, former names go with their session, in any order.
        recorder.until(
            lambda seen: (
                expected
                == [one for one in seen.changes() if world.deletes or isinstance(one, Appeared)]
            )
        )
        assert recorder.doubts == []
    assert first.changes() == second.changes()


def test_former_names_do_not_pile_up_where_nobody_may_delete_them(world: World) -> None:
    registry, recorder = watched(world)
    names = [f"1.{number:024x}.0.ec2.a" for number in range(30)]
    most = 0
    for previous, name in zip([None, *names], names, strict=False):
        register(registry, name, replaces=previous)
        most = max(most, len(registry.names()))
    assert most <= (1 if world.deletes else 9)
    final = set(registry.names())
    assert names[-1] in final
    recorder.until(lambda seen: seen.picture == final)
    assert recorder.doubts == []


def test_a_watcher_that_starts_amid_changes_misses_nothing_and_sees_nothing_twice(
    world: World,
) -> None:
    writers = [world.open() for _ in range(3)]
    stop = threading.Event()

    def churn(index: int) -> None:
        previous = None
        number = 0
        while not stop.is_set() or number < 40:
            name = f"1.{number:024x}.0.ec2.w{index}"
            register(writers[index], name, host_id=f"w{index}", replaces=previous)
            previous, number = name, number + 1

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(churn, index) for index in range(3)]
        recorders = [watched(world)[1] for _ in range(8)]
        stop.set()
        for future in running:
            future.result()
    reader = world.open()
    final = set(reader.names())
    words = {read.record.word for read in reader.records().values() if read.record is not None}
    assert len(words) == 3
    assert words == final if world.deletes else words <= final  # some, or none, that were before
    for recorder in recorders:
        recorder.until(lambda seen: seen.picture == final)
        assert recorder.doubts == []
        assert len(recorder.of(Snapshot)) == 1


def test_watching_may_come_after_other_calls_and_keeps_their_session(world: World) -> None:
    registry, recorder = world.open(), Recorder()
    register(registry)
    registry.watch(recorder)
    recorder.until_fresh()
    assert recorder.events[0] == Snapshot(frozenset({A}))
    register(registry, A2, replaces=A)
    recorder.until_picture(*after_replacing(world, A, A2))
    assert recorder.of(SessionEnded) == []
    assert len(recorder.of(Snapshot)) == 1


def test_a_second_sink_is_refused(world: World) -> None:
    registry, _ = watched(world)
    with pytest.raises(RegistryError, match="watched already"):
        registry.watch(Recorder())


def test_all_is_told_anew_when_it_is_asked_for(world: World) -> None:
    """A list, the settings, Fresh; and each change after it comes once."""
    writer = world.open()
    register(writer)
    registry, recorder = watched(world)
    recorder.until_picture(A)
    mark = recorder.mark()
    registry.relist()
    recorder.until(lambda seen: any(isinstance(one, Fresh) for one in seen.since(mark)))
    told = [one for one in recorder.since(mark) if not isinstance(one, Stale)]
    assert told[0] == Snapshot(frozenset({A}))
    read, fresh = told[1:-1], told[-1]
    assert {one.setting for one in read if isinstance(one, SettingRead)} == set(SETTING_NAMES)
    assert len(read) == len(SETTING_NAMES)
    assert isinstance(fresh, Fresh)
    register(writer, A2, replaces=A)
    recorder.until_picture(*after_replacing(world, A, A2))
    assert not recorder.doubts


def test_telling_anew_may_be_asked_for_amid_changes_and_without_a_connection(
    world: World,
) -> None:
    """Nothing is missed and nothing comes twice, whenever it is asked for; and it is no error
    before there is a watch."""
    writer = world.open()
    registry, recorder = world.open(), Recorder()
    registry.relist()
    registry.watch(recorder)
    recorder.until_fresh()
    previous = None
    for number in range(30):
        name = f"1.{number:024x}.0.ec2.a"
        register(writer, name, replaces=previous)
        previous = name
        if number % 5 == 0:
            registry.relist()
    final = set(writer.names())
    assert previous in final
    recorder.until(lambda seen: seen.picture == final and seen.fresh)
    assert not recorder.doubts


def test_settings_are_told_on_each_change_and_raw(world: World) -> None:
    operator = world.open()
    _, recorder = watched(world)
    for value in (b"7", b"\xff nonsense", b"", None, b"9"):
        operator.change_setting("maxchange", value)
        expected = SettingRead("maxchange", value)
        recorder.until(partial(last_setting_is, expected))


def test_a_document_of_groups_as_long_as_it_may_be_is_told_and_read_whole(world: World) -> None:
    operator, value = world.open(), b"x" * MAX_GROUPS_BYTES
    _, recorder = watched(world)
    operator.edit_setting("groups", lambda _: value)
    assert operator.setting("groups") == value
    recorder.until(partial(last_setting_is, SettingRead("groups", value)))


def test_an_id_belongs_to_somebody_only_where_there_are_rights(world: World) -> None:
    host = world.open()
    overlay = host.acquire("a", SUBNET)
    host.register(host_id="a", name=A, data=b"", detail=b"{}", overlay=overlay)
    assert host.owners().keys() == (set() if world.deletes else {"a"})


def test_names_go_with_their_lease_in_the_same_step_and_are_told(world: World) -> None:
    operator = world.open()
    operator.acquire("a", SUBNET)
    operator.acquire("b", SUBNET)
    names = Names("neti.internal", {"db": "a", "mail": "a", "web": "b"}, 4)
    operator.change_setting("names", encode_names(names))
    _, recorder = watched(world)
    operator.move("a", "b")
    moved = operator.setting("names")
    held = decode_names(moved)
    assert held.ids == {"db": "b", "mail": "b", "web": "b"}
    assert held.edition > 1_700_000_000  # later than all that hosts know, in an older copy too
    recorder.until(partial(last_setting_is, SettingRead("names", moved)))
    operator.release("b")
    gone = operator.setting("names")
    assert decode_names(gone) == Names("neti.internal", {}, decode_names(gone).edition)
    assert decode_names(gone).edition > held.edition
    recorder.until(partial(last_setting_is, SettingRead("names", gone)))


def test_names_that_cannot_be_read_keep_nobody_from_a_lease(world: World) -> None:
    operator = world.open()
    overlay = operator.acquire("a", SUBNET)
    operator.change_setting("names", b"{")
    assert operator.move("a", "b") == (overlay, None)
    assert operator.release("b") == overlay
    assert operator.setting("names") == b"{"


def test_of_two_who_edit_a_setting_at_once_neither_is_lost(world: World) -> None:
    operators = [world.open() for _ in range(2)]

    def edited(number: int) -> None:
        def add(raw: bytes | None) -> bytes:
            return b" ".join(filter(None, [raw, word]))

        for turn in range(10):
            word = f"{number}-{turn}".encode()
            operators[number].edit_setting("drained", add)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(edited, range(2)))
    words = (operators[0].setting("drained") or b"").split()
    assert sorted(words) == sorted(f"{i}-{turn}".encode() for i in range(2) for turn in range(10))


def test_an_edit_may_delete_a_setting_or_refuse(world: World) -> None:
    operator = world.open()

    def refuse(raw: bytes | None) -> bytes | None:
        raise NetiError(f"not {raw!r}")

    operator.edit_setting("maxchange", lambda raw: b"7" if raw is None else b"8")
    with pytest.raises(NetiError, match="not b'7'"):
        operator.edit_setting("maxchange", refuse)
    assert operator.setting("maxchange") == b"7"
    operator.edit_setting("maxchange", lambda _: None)
    assert operator.setting("maxchange") is None


def test_a_release_of_full_length_is_told_whole_and_may_be_read(world: World) -> None:
    operator = world.open()
    _, recorder = watched(world)
    long = b"x" * release.MAX_BYTES
    assert operator.setting("release") is None
    operator.change_setting("release", long)
    recorder.until(partial(last_setting_is, SettingRead("release", long)))
    assert operator.setting("release") == long
    operator.change_setting("release", None)
    recorder.until(partial(last_setting_is, SettingRead("release", None)))
    assert operator.setting("interval") is None


def test_who_was_away_hears_of_a_release_after_the_list(world: World) -> None:
    """It is about those who are gone: whoever follows it knows who that is."""
    registry, operator = world.open(), world.open()
    register(registry)
    operator.change_setting("release", b"one")
    registry.close()
    _, recorder = watched(world)
    kinds = [type(event) for event in recorder.events]
    assert kinds.index(Snapshot) < recorder.events.index(SettingRead("release", b"one"))
    assert recorder.events[kinds.index(Snapshot)] == Snapshot(frozenset())


def last_setting_is(expected: SettingRead, recorder: Recorder) -> bool:
    return recorder.of(SettingRead)[-1] == expected


def test_a_setting_or_a_detail_is_no_change_of_names(world: World) -> None:
    registry, recorder = watched(world)
    register(registry)
    recorder.until_picture(A)
    mark = recorder.mark()
    registry.describe("a", b'{"stage": "shadow"}')
    registry.change_setting("interval", b"1")
    register(registry, B, host_id="b")
    recorder.until_picture(A, B)
    recorder.until(lambda seen: SettingRead("interval", b"1") in seen.since(mark))
    assert set(recorder.since(mark)) == {SettingRead("interval", b"1"), Appeared(B)}


# --- questions within the stream ---


def test_leases_are_answered_in_the_stream(world: World) -> None:
    registry, recorder = watched(world)
    mine = registry.acquire("a", SUBNET)
    free = next(address for address in SUBNET.hosts() if address != mine)
    registry.ask([mine, free])
    recorder.until(lambda seen: len(seen.of(LeaseRead)) == 2)
    assert recorder.of(LeaseRead) == [LeaseRead(mine, "a"), LeaseRead(free, None)]


def test_data_are_answered_in_the_stream_none_for_an_entry_that_is_gone(world: World) -> None:
    registry, recorder = watched(world)
    register(registry)
    registry.ask([A, B])
    recorder.until(lambda seen: len(seen.of(DataRead)) == 2)
    assert recorder.of(DataRead) == [DataRead(A, b"data"), DataRead(B, None)]


def test_an_answer_comes_after_the_change_that_it_reflects(world: World) -> None:
    registry, recorder = watched(world)
    writer = world.open()
    previous = None
    for number in range(30):
        name = f"1.{number:024x}.0.ec2.a"
        register(writer, name, replaces=previous)
        registry.ask([name])
        previous = name
    recorder.until(lambda seen: len(seen.of(DataRead)) == 30)
    events = recorder.events
    for answer in recorder.of(DataRead):
        cause = Appeared(answer.name) if answer.data is not None else Vanished(answer.name)
        assert events.index(cause) < events.index(answer)


def test_the_sink_may_ask(world: World) -> None:
    registry, recorder = world.open(), Recorder()

    def sink(event: Event) -> None:
        recorder(event)
        if isinstance(event, Appeared):
            registry.ask([event.name])

    registry.watch(sink)
    recorder.until_fresh()
    register(world.open())
    recorder.until(lambda seen: DataRead(A, b"data") in seen.events)


def test_asking_without_a_connection_is_no_error(world: World) -> None:
    registry = world.open()
    registry.ask([SUBNET[1]])
    registry.ask([A])


# --- registering ---


def test_repeating_a_registration_changes_nothing_but_the_detail(world: World) -> None:
    registry, recorder = watched(world)
    register(registry)
    recorder.until_picture(A)
    registry.register(host_id="a", name=A, data=b"other", detail=b'{"version": 2}')
    register(registry, B, host_id="b")
    recorder.until_picture(A, B)
    assert recorder.changes() == [Appeared(A), Appeared(B)]
    assert registry.data([A]) == {A: b"data"}
    assert Detail("a", b'{"version": 2}') in registry.details()


def test_a_change_of_address_is_one_step_the_new_name_first(world: World) -> None:
    """Where nobody may delete, the old name stands, and the host's record does not name it."""
    registry, own = watched(world)
    _, recorder = watched(world)
    register(registry)
    register(registry, A2, replaces=A)
    recorder.until_picture(*after_replacing(world, A, A2))
    gone = [Vanished(A)] if world.deletes else []
    assert recorder.changes() == [Appeared(A), Appeared(A2), *gone]
    assert registry.names() == set(after_replacing(world, A, A2))
    read = registry.records()["a"]
    assert read.record is not None
    assert read.record.word == A2
    assert registry.made([A2]) == {A2: read.written}
    assert own.of(SessionEnded) == []


def test_replacing_may_be_repeated_and_a_name_may_replace_itself(world: World) -> None:
    registry, recorder = watched(world)
    register(registry)
    register(registry, A2, replaces=A)
    register(registry, A2, replaces=A)
    register(registry, A2, replaces=A2)
    assert registry.names() == set(after_replacing(world, A, A2))
    recorder.until_picture(*after_replacing(world, A, A2))


def test_a_session_cannot_replace_anothers_name(world: World) -> None:
    register(world.open(), B, host_id="b")
    registry = world.open()
    register(registry, A, replaces=B)
    assert registry.names() == {A, B}


def test_a_second_agent_with_one_identity_is_told_who_holds_it(world: World) -> None:
    first, second = world.open(), world.open()
    said = detail_document.encode(detail_document.Document(name="db-1", pid=4711))
    first.register(host_id="a", name=A, data=b"", detail=said)
    with pytest.raises(IdentityHeld, match=r"db-1.*4711"):
        register(second, A2)
    with pytest.raises(IdentityHeld, match=r"db-1.*4711"):
        register(second, A)
    assert first.names() == {A}


@pytest.mark.parametrize("detail", [b"", b"junk", b"[]", b'{"name": 1, "pid": "x"}', b"\xff"])
def test_a_holder_that_says_nothing_useful_is_named_by_its_session(
    world: World, detail: bytes
) -> None:
    first, second = world.open(), world.open()
    first.register(host_id="a", name=A, data=b"", detail=detail)
    with pytest.raises(IdentityHeld, match=r"session 0x[0-9a-f]+"):
        register(second, A2)


def test_an_identity_is_free_again_when_its_session_has_ended(world: World) -> None:
    first, recorder = watched(world)
    register(first)
    session = recorder.until_fresh()
    second, other = watched(world)
    first.detach()
    with pytest.raises(IdentityHeld):
        register(second)
    world.expire(session)
    other.until_picture()
    register(second, A2)
    assert second.names() == {A2}


# --- details ---


def test_a_detail_can_be_replaced_by_the_session_that_registered(world: World) -> None:
    registry = world.open()
    register(registry)
    registry.describe("a", b'{"stage": "trial"}')
    assert registry.details() == [Detail("a", b'{"stage": "trial"}')]


def test_a_document_goes_with_the_session_of_its_hosts_entry(world: World) -> None:
    """So whoever reads it can tell one that somebody else made."""
    registry = world.open()
    register(registry)
    (one,) = registry.details()
    assert registry.sessions([A, "nobody"]) == {A: one.session}
    assert one.session


def test_nobody_describes_a_host_that_it_has_not_registered(world: World) -> None:
    registry, other = world.open(), world.open()
    with pytest.raises(RegistryError, match="not registered"):
        registry.describe("a", b"{}")
    register(registry)
    with pytest.raises(RegistryError, match="not registered"):
        other.describe("a", b"stolen")
    assert registry.details() == [Detail("a", b"{}")]


def test_a_report_is_written_with_the_document_and_goes_with_it(world: World) -> None:
    registry = world.open()
    registry.register(host_id="a", name=A, data=b"", detail=b"{}", report=b'{"stage": "down"}')
    session = registry.details()[0].session
    assert world.operator().reports(["a", "nobody"]) == [Detail("a", b'{"stage": "down"}')]
    registry.describe("a", b'{"name": "web"}', b'{"stage": "trial"}')
    (report,) = world.operator().reports(["a"]) or []
    assert (report.document, report.session) == (b'{"stage": "trial"}', session)
    assert registry.details() == [Detail("a", b'{"name": "web"}')]
    registry.leave(host_id="a", name=A, departure=LEFT)
    assert world.operator().reports(["a"]) == []
    assert registry.details() == []


def test_a_report_that_is_not_written_again_is_not_there(world: World) -> None:
    """As by an agent of a version before, which takes the session up: what it says counts then."""
    registry = world.open()
    registry.register(host_id="a", name=A, data=b"", detail=b"{}", report=b"{}")
    registry.close()
    register(world.open())
    assert world.operator().reports(["a"]) == []


# --- going ---


def test_leaving_shows_a_departure_and_then_the_name_goes(world: World) -> None:
    registry = world.open()
    _, recorder = watched(world)
    register(registry)
    registry.leave(host_id="a", name=A, departure=LEFT)
    recorder.until_picture(LEFT)
    assert recorder.changes() == [Appeared(A), Appeared(LEFT), Vanished(A)]
    assert registry.details() == []


def test_leaving_may_be_repeated_and_closing_takes_the_departure_along(world: World) -> None:
    registry = world.open()
    _, recorder = watched(world)
    register(registry)
    registry.leave(host_id="a", name=A, departure=LEFT)
    registry.leave(host_id="a", name=A, departure=LEFT)
    registry.close()
    recorder.until(lambda seen: Vanished(LEFT) in seen.events)
    recorder.until_picture()
    assert recorder.of(Vanished) == [Vanished(A), Vanished(LEFT)]


def test_nobody_sends_another_host_away(world: World) -> None:
    register(world.open())
    other = world.open()
    with pytest.raises(IdentityHeld):
        other.leave(host_id="a", name=A, departure=LEFT)
    assert other.names() == {A}


def test_who_left_and_came_back_is_heard_when_it_leaves_again(world: World) -> None:
    """The word of the first time may still be there, in that session or another's. Where members
    may delete nothing it stays, and who comes back is the next generation, with a word of its own.
    """
    registry, _ = watched(world)
    _, recorder = watched(world)
    register(registry)
    registry.leave(host_id="a", name=A, departure=LEFT)
    registry.detach()
    # Before the list has A it is as if A were gone.
    recorder.until(lambda seen: Vanished(A) in seen.events)
    again, _ = watched(world)
    for number in (1, 2):
        generation = 0 if world.deletes else number
        name, word = A.replace(".0.", f".{generation}."), f"left.{generation}.a"
        # The lambdas hold this turn's values by their defaults, which mypy cannot infer (misc).
        mark = recorder.mark()
        again.register(host_id="a", name=name, data=b"", detail=b"")
        recorder.until(lambda seen, name=name: name in (seen.picture or set()))  # type: ignore[misc]  # a default in a lambda
        again.leave(host_id="a", name=name, departure=word)
        gone = Vanished(name)
        recorder.until(lambda seen, mark=mark, gone=gone: gone in seen.since(mark))  # type: ignore[misc]  # a default in a lambda
        heard = recorder.since(mark)
        assert heard.index(Appeared(word)) < heard.index(gone)
    assert recorder.doubts == []


def test_another_process_leaves_with_the_saved_session(world: World) -> None:
    registry, recorder = watched(world)
    register(registry)
    session = recorder.until_fresh()
    _, other = watched(world)
    registry.detach()
    leaving = world.open(session)
    leaving.leave(host_id="a", name=A, departure=LEFT)
    leaving.close()
    other.until(lambda seen: Vanished(A) in seen.events)
    assert other.events.index(Appeared(LEFT)) < other.events.index(Vanished(A))


def test_closing_ends_everything_that_was_registered(world: World) -> None:
    registry, _ = watched(world)
    _, recorder = watched(world)
    register(registry)
    recorder.until_picture(A)
    registry.close()
    recorder.until_picture()
    assert world.open().details() == []


def test_a_closed_registry_says_so(world: World) -> None:
    registry, _ = watched(world)
    registry.close()
    registry.close()
    with pytest.raises(RegistryError, match="closed"):
        registry.names()


# --- restarts and endings ---


def test_a_restart_with_the_saved_session_is_seen_by_nobody(world: World) -> None:
    registry, recorder = watched(world)
    register(registry)
    session = recorder.until_fresh()
    _, other = watched(world)
    mark = other.mark()
    registry.detach()
    again, recorder = watched(world, session)
    assert recorder.until_fresh() == session
    assert recorder.of(SessionEnded) == []
    register(again)
    register(again, B, host_id="b")
    other.until_picture(A, B)
    assert other.since(mark) == [Appeared(B)]


def test_a_saved_session_that_has_ended_is_reported_and_replaced(world: World) -> None:
    registry, recorder = watched(world)
    register(registry)
    session = recorder.until_fresh()
    registry.detach()
    world.expire(session)
    again, recorder = watched(world, session)
    assert recorder.of(SessionEnded) == [SessionEnded()]
    assert recorder.until_fresh() != session
    recorder.until_picture()
    register(again)
    recorder.until_picture(A)


def test_a_saved_session_with_a_wrong_password_is_not_taken_over(world: World) -> None:
    registry, recorder = watched(world)
    register(registry)
    session = recorder.until_fresh()
    _, thief = watched(world, Session(session.id, b"x" * len(session.password)))
    assert thief.of(SessionEnded) == [SessionEnded()]
    assert thief.until_fresh().id != session.id
    assert registry.names() == {A}


def test_a_clone_with_the_saved_session_does_not_share_it(world: World) -> None:
    """One of the two keeps the identity, the other is told; and then there is peace."""
    first, one = watched(world)
    register(first)
    session = one.until_fresh()
    _, peer = watched(world)
    clone, other = watched(world, session)
    both, deadline = (first, clone), time.monotonic() + 60
    while not (one.of(SessionTaken) or other.of(SessionTaken)):
        assert time.monotonic() < deadline, "nobody is told"
        time.sleep(0.05)
    refused = 0
    while not refused or one.until_fresh().id == other.until_fresh().id:
        assert time.monotonic() < deadline, "they share it still"
        refused += sum(_is_refused(registry) for registry in both)
        time.sleep(0.05)
    while all(_is_refused(registry) for registry in both):  # until the shared session has ended
        assert time.monotonic() < deadline, "nobody has the identity"
        time.sleep(0.2)
    mark = peer.mark()
    assert sorted(_is_refused(registry) for registry in both * 10) == [False] * 10 + [True] * 10
    assert peer.since(mark) == []
    assert first.names() == {A}


def _is_refused(registry: Registry) -> bool:
    while True:
        try:
            register(registry)
        except IdentityHeld:
            return True
        except RegistryUnavailable:
            continue
        return False


def test_an_ended_session_is_reported_and_then_the_picture_is_right_again(world: World) -> None:
    registry, recorder = watched(world)
    register(registry)
    recorder.until_picture(A)
    session = recorder.until_fresh()
    _, other = watched(world)
    mark = recorder.mark()
    world.expire(session)
    other.until(lambda seen: Vanished(A) in seen.events)
    recorder.until(lambda seen: len(seen.of(Fresh)) == 2)
    recorder.until_picture()
    assert SessionEnded() in recorder.since(mark)
    assert recorder.until_fresh() != session
    register(registry)
    for each in (recorder, other):
        each.until_picture(A)
    assert other.doubts == []


def test_a_session_that_ends_takes_its_names_and_its_detail_but_not_its_lease(
    world: World,
) -> None:
    registry, recorder = watched(world)
    overlay = registry.acquire("a", SUBNET)
    register(registry)
    session = recorder.until_fresh()
    _, other = watched(world)
    registry.detach()
    world.expire(session)
    other.until_picture()
    operator = world.open()
    assert operator.details() == []
    assert operator.lease_of("a") == overlay
    assert operator.acquire("a", SUBNET) == overlay


# --- leases ---


def test_the_same_id_gets_the_same_address_for_ever(world: World) -> None:
    first, second = world.open(), world.open()
    overlay = first.acquire("a", SUBNET)
    assert overlay in set(SUBNET.hosts())
    assert second.acquire("a", SUBNET) == overlay
    assert second.lease_of("a") == overlay
    assert second.lease_of("b") is None
    assert second.leases() == {overlay: "a"}


def test_126_hosts_at_once_fill_a_subnet_of_126_addresses_and_the_127th_is_told(
    world: World,
) -> None:
    subnet = IPv4Network("192.168.7.0/25")
    registries = [world.open() for _ in range(6)]

    def acquire(number: int) -> IPv4Address:
        return registries[number % 6].acquire(f"host-{number}", subnet)

    with ThreadPoolExecutor(18) as pool:
        addresses = list(pool.map(acquire, range(126)))
    assert set(addresses) == set(subnet.hosts())
    with pytest.raises(OverlayExhausted, match=r"192\.168\.7\.0/25.*neti lease release"):
        registries[0].acquire("one-too-many", subnet)
    assert acquire(5) == addresses[5]
    assert len(registries[0].leases()) == 126


def test_one_id_that_asks_many_times_at_once_gets_one_address(world: World) -> None:
    registries = [world.open() for _ in range(6)]
    with ThreadPoolExecutor(12) as pool:
        addresses = list(pool.map(lambda n: registries[n % 6].acquire("a", SUBNET), range(48)))
    assert len(set(addresses)) == 1
    assert len(registries[0].leases()) == 1


@pytest.mark.parametrize("subnet", ["10.0.0.0/24", "192.168.0.0/31"])
def test_a_lease_outside_the_subnet_is_a_conflict(world: World, subnet: str) -> None:
    registry = world.open()
    registry.acquire("a", IPv4Network("172.16.0.0/30"))
    with pytest.raises(LeaseConflict, match=r"172\.16\.0\.[12].*neti lease release a"):
        registry.acquire("a", IPv4Network(subnet))


def test_a_released_address_is_free_for_the_next(world: World) -> None:
    subnet = IPv4Network("192.168.9.0/30")
    registry = world.open()
    first, second = registry.acquire("a", subnet), registry.acquire("b", subnet)
    assert registry.release("a") == first
    assert registry.lease_of("a") is None
    assert registry.acquire("c", subnet) == first
    assert registry.leases() == {first: "c", second: "b"}


def test_leases_come_the_oldest_first(world: World) -> None:
    """Addresses and ids sort otherwise."""
    registry = world.open()
    prefer = {"c": 9, "a": 7, "b": 8}
    for host_id, number in prefer.items():
        registry.acquire(host_id, SUBNET, prefer=SUBNET[number])
    assert list(registry.leases().values()) == ["c", "a", "b"]
    registry.move("c", "d")  # whoever is given a lease has it since then
    assert list(registry.leases().values()) == ["a", "b", "d"]
    registry.release("a")
    registry.acquire("a", SUBNET, prefer=SUBNET[7])
    assert list(registry.leases().values()) == ["b", "d", "a"]


def test_details_are_read_of_those_who_are_asked_about(world: World) -> None:
    registry = world.open()
    register(registry)
    register(registry, B, host_id="b")
    assert [one.host_id for one in registry.details()] == ["a", "b"]
    assert [one.host_id for one in registry.details(["b", "nobody"])] == ["b"]
    assert registry.details([]) == []


def test_everybody_who_watches_is_told_of_a_released_lease(world: World) -> None:
    """As of a moved one, so that whoever still keeps its holder looks whose it is now."""
    operator = world.open()
    _, recorder = watched(world)
    overlay = operator.acquire("a", SUBNET)
    word = entry.encode_moved(overlay, "a")
    world.put_junk(word)  # as a member can, to keep an operator from it
    recorder.until(lambda seen: Appeared(word) in seen.events)
    mark = recorder.mark()
    assert operator.release("a") == overlay
    recorder.until(lambda seen: Vanished(word) in seen.since(mark))
    assert operator.leases() == {}
    assert operator.names() == frozenset()


def test_releasing_what_is_not_leased_is_no_error(world: World) -> None:
    assert world.open().release("nobody") is None


def test_no_lease_is_released_while_its_host_is_registered(world: World) -> None:
    registry, operator = world.open(), world.open()
    overlay = registry.acquire("a", SUBNET)
    register(registry)
    with pytest.raises(IdentityHeld, match="registered"):
        operator.release("a")
    registry.leave(host_id="a", name=A, departure=LEFT)
    assert operator.release("a") == overlay


def test_a_lease_moves_in_one_step_and_everybody_who_watches_is_told(world: World) -> None:
    operator = world.open()
    _, recorder = watched(world)
    overlay, former = operator.acquire("a", SUBNET), operator.acquire("b", SUBNET)
    assert operator.move("a", "b") == (overlay, former)
    assert operator.leases() == {overlay: "b"}
    assert operator.lease_of("a") is None
    assert operator.acquire("b", SUBNET) == overlay
    word = entry.encode_moved(overlay, "b")
    recorder.until(lambda seen: Vanished(word) in seen.events)
    assert recorder.changes() == [Appeared(word), Vanished(word)]
    assert recorder.doubts == []
    assert operator.names() == frozenset()


def test_a_lease_moves_to_a_host_that_was_never_seen(world: World) -> None:
    operator = world.open()
    overlay = operator.acquire("a", SUBNET)
    assert operator.move("a", "b") == (overlay, None)
    assert operator.acquire("b", SUBNET) == overlay
    assert operator.acquire("a", SUBNET, prefer=overlay) != overlay


def test_no_lease_moves_while_its_host_is_registered_unless_forced(world: World) -> None:
    registry, operator = world.open(), world.open()
    overlay = registry.acquire("a", SUBNET)
    register(registry)
    with pytest.raises(IdentityHeld, match=r"a is registered.*--force"):
        operator.move("a", "b")
    assert operator.leases() == {overlay: "a"}
    assert operator.move("a", "b", force=True) == (overlay, None)
    assert operator.leases() == {overlay: "b"}
    assert registry.names() == {A}


def test_a_move_to_a_host_that_is_registered_leaves_its_registration_alone(world: World) -> None:
    registry, operator = world.open(), world.open()
    overlay = operator.acquire("b", SUBNET)
    former = registry.acquire("a", SUBNET)
    register(registry)
    assert operator.move("b", "a") == (overlay, former)
    assert registry.names() == {A}
    assert registry.lease_of("a") == overlay


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [("nobody", "b", "holds no lease"), ("a", "a", "already"), ("a", "../x", "no host id")],
)
def test_a_move_that_means_nothing_changes_nothing(
    world: World, old: str, new: str, why: str
) -> None:
    operator = world.open()
    overlay = operator.acquire("a", SUBNET)
    with pytest.raises(RegistryError, match=why):
        operator.move(old, new)
    assert operator.leases() == {overlay: "a"}


def test_two_moves_of_one_lease_at_once_give_it_to_one(world: World) -> None:
    operators = [world.open() for _ in range(4)]
    overlay = operators[0].acquire("a", SUBNET)

    def move(number: int) -> bool:
        try:
            operators[number].move("a", f"n{number}")
        except RegistryError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(move, range(4))) == 1
    assert list(operators[0].leases()) == [overlay]


# --- what others wrote ---


@pytest.mark.parametrize(
    "junk", ["x", "ü" * 20, "1.zz", "left.", " ", "y" * 61, "z" * 100_000, "漢" * 90]
)
def test_junk_names_arrive_bounded_and_hurt_nobody(world: World, junk: str) -> None:
    _, recorder = watched(world)
    world.put_junk(junk)
    registry = world.open()
    register(registry)
    recorder.until(lambda seen: Appeared(A) in seen.events)
    recorder.until(lambda seen: seen.picture is not None and len(seen.picture) == 2)
    assert recorder.picture == set(registry.names()) == watched(world)[1].picture
    assert all(len(name) <= 60 for name in registry.names())
    registry.data(registry.names())


def test_two_long_names_with_one_beginning_are_told_apart(world: World) -> None:
    _, recorder = watched(world)
    world.put_junk("y" * 200)
    world.put_junk("y" * 201)
    register(world.open())
    recorder.until(lambda seen: seen.picture is not None and len(seen.picture) == 3)
    assert recorder.doubts == []


def test_data_of_an_absurd_size_are_cut(world: World) -> None:
    registry, recorder = watched(world)
    registry.register(host_id="a", name=A, data=b"x" * 400_000, detail=b"y" * 400_000)
    registry.ask([A])
    recorder.until(lambda seen: len(seen.of(DataRead)) == 1)
    data = recorder.of(DataRead)[0].data
    assert data is not None
    assert len(data) == 4097
    assert registry.data([A]) == {A: data}
    assert len(registry.details()[0].document) <= 16_384


# --- threads ---


def test_calls_from_many_threads_do_not_disturb_one_another(world: World) -> None:
    registry, recorder = watched(world)

    def work(number: int) -> None:
        host = f"h{number}"
        registry.acquire(host, SUBNET)
        register(registry, f"1.{number:024x}.0.s.{host}", host_id=host)
        assert registry.names()
        assert registry.leases()

    with ThreadPoolExecutor(12) as pool:
        for future in [pool.submit(work, number) for number in range(12)]:
            future.result()
    recorder.until(lambda seen: seen.picture is not None and len(seen.picture) == 12)
    assert recorder.doubts == []
    assert not recorder.of(Stale)


def test_an_origin_names_the_fleet_and_grows_with_every_name(world: World) -> None:
    """Same fleet for everybody; one more for each name that came or went."""
    first, recorder = world.open(), Recorder()
    first.watch(recorder)
    recorder.until_fresh()
    before = recorder.of(Snapshot)[-1].origin
    assert before.fleet
    register(first)
    recorder.until_picture(A)
    other, seen = world.open(), Recorder()
    other.watch(seen)
    seen.until_fresh()
    after = seen.of(Snapshot)[-1].origin
    assert after.fleet == before.fleet == world.open().fleet()
    assert after.version > before.version
    assert after.doubt(before) is None
    assert "went back" in (before.doubt(after) or "")
    assert "another one" in (Origin("x", 0).doubt(after) or "")


def test_a_preferred_address_is_taken_when_it_is_free(world: World) -> None:
    """What a host remembers, in a registry that forgot it; never somebody else's."""
    registry = world.open()
    wanted = IPv4Address("192.168.0.77")
    assert registry.acquire("a", SUBNET, prefer=wanted) == wanted
    assert registry.acquire("a", SUBNET, prefer=IPv4Address("192.168.0.78")) == wanted
    assert registry.acquire("b", SUBNET, prefer=wanted) != wanted
    assert registry.acquire("c", SUBNET, prefer=SUBNET.broadcast_address) in SUBNET.hosts()
