"""What every registry promises about a host's own record; see docs/design/host-records.md."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from tests.support.recorder import Recorder
from tests.support.worlds import World

from neti.errors import IdentityHeld, NameTaken
from neti.registry import (
    Appeared,
    DataRead,
    HostChanged,
    HostRead,
    Registry,
)
from neti.registry.record import HostId, HostRecord

OVERLAY = IPv4Address("192.168.0.1")
A = "1.0a000001c6336401c0a80001.0.ec2.a"
A2 = "1.0a000001c6336401c0a80001.1.ec2.a"
A3 = "1.0a000001c6336401c0a80001.2.ec2.a"
B = "1.0a000002c6336402c0a80002.0.vpc.b"
LEFT = "left.0.a"
HERE = "00ff"


def watched(world: World) -> tuple[Registry, Recorder]:
    registry, recorder = world.open(), Recorder()
    registry.watch(recorder, hosts=True)
    recorder.until_fresh()
    return registry, recorder


def register(registry: Registry, name: str = A, *, machine: str = HERE, host_id: str = "a") -> None:
    registry.register(
        host_id=host_id, name=name, data=b"", detail=b"{}", overlay=OVERLAY, machine=machine
    )


def read(registry: Registry, recorder: Recorder, host_id: str = "a") -> HostRead:
    mark = recorder.mark()
    registry.ask([HostId(host_id)])
    recorder.until(lambda seen: any(isinstance(e, HostRead) for e in seen.since(mark)))
    return next(e for e in recorder.since(mark) if isinstance(e, HostRead))


def made(registry: Registry, recorder: Recorder, name: str) -> int:
    mark = recorder.mark()
    registry.ask([name])
    recorder.until(lambda seen: any(isinstance(e, DataRead) for e in seen.since(mark)))
    return next(e for e in recorder.since(mark) if isinstance(e, DataRead)).made


def vouched(registry: Registry, recorder: Recorder, name: str) -> bool:
    answer = read(registry, recorder)
    named = answer.record is not None and answer.record.word == name
    return named and made(registry, recorder, name) == answer.written


def test_a_host_that_registers_is_vouched_for_by_its_record(world: World) -> None:
    registry, recorder = watched(world)
    register(registry)
    answer = read(registry, recorder)
    assert answer.record == HostRecord(overlay=OVERLAY, word=A, machine=HERE)
    assert answer.written == made(registry, recorder, A) > 0


def test_the_record_is_told_directly_before_the_entry(world: World) -> None:
    registry, recorder = watched(world)
    register(registry)
    register(world.open(), B, host_id="b")
    recorder.until_picture(A, B)
    told = [e for e in recorder.events if isinstance(e, HostChanged | Appeared)]
    assert told == [HostChanged("a"), Appeared(A), HostChanged("b"), Appeared(B)]


def test_who_did_not_ask_for_records_is_told_nothing_of_them(world: World) -> None:
    registry, recorder = world.open(), Recorder()
    registry.watch(recorder)
    recorder.until_fresh()
    register(registry)
    recorder.until_picture(A)
    assert not recorder.of(HostChanged)


def test_a_name_that_somebody_else_made_is_not_vouched_for(world: World) -> None:
    registry, recorder = watched(world)
    register(registry)
    world.put_junk(A2)
    assert not vouched(registry, recorder, A2)
    assert vouched(registry, recorder, A)


def test_a_name_that_was_made_beforehand_is_taken(world: World) -> None:
    registry, recorder = watched(world)
    world.put_junk(A)
    with pytest.raises(NameTaken):
        register(registry)
    assert read(registry, recorder).record is None
    register(registry, A2)
    assert vouched(registry, recorder, A2)


def test_a_word_made_again_by_somebody_else_is_not_vouched_for(world: World) -> None:
    host, own = watched(world)
    registry, recorder = watched(world)
    register(host)
    recorder.until_picture(A)  # so that the next picture is of its end, and not of before
    session = own.until_fresh()
    host.detach()
    world.expire(session)
    recorder.until_picture()
    world.put_junk(A)
    assert not vouched(registry, recorder, A)


def test_a_new_entry_of_the_same_session_is_the_hosts_word_from_then_on(world: World) -> None:
    """The former one is gone, where members may delete, although the caller did not name it."""
    registry, recorder = watched(world)
    register(registry)
    register(registry, A2)
    assert vouched(registry, recorder, A2)
    assert not vouched(registry, recorder, A)
    assert registry.names() == ({A2} if world.deletes else {A, A2})


def test_a_registration_that_is_repeated_writes_no_record(world: World) -> None:
    registry, recorder = watched(world)
    register(registry)
    before = read(registry, recorder)
    register(registry)
    assert read(registry, recorder) == before
    assert recorder.of(HostChanged) == [HostChanged("a")]


def test_the_same_machine_takes_over_at_once(world: World) -> None:
    register(world.open())
    registry, recorder = watched(world)
    register(registry, A2)
    assert vouched(registry, recorder, A2)


def test_whoever_takes_over_takes_another_name(world: World) -> None:
    register(world.open())
    with pytest.raises(NameTaken):
        register(world.open())


@pytest.mark.parametrize("machine", ["", "00aa"])
def test_another_machine_is_told_that_the_id_is_held(world: World, machine: str) -> None:
    register(world.open())
    registry, recorder = watched(world)
    with pytest.raises(IdentityHeld):
        register(registry, A2, machine=machine)
    assert vouched(registry, recorder, A)


def test_machines_that_say_nothing_are_not_the_same(world: World) -> None:
    register(world.open(), machine="")
    with pytest.raises(IdentityHeld):
        register(world.open(), A2, machine="")


def test_another_machine_may_come_when_the_entry_is_gone(world: World) -> None:
    host, own = watched(world)
    register(host)
    session = own.until_fresh()
    host.detach()
    registry, recorder = watched(world)
    world.expire(session)
    recorder.until_picture()
    register(registry, A2, machine="00aa")
    assert vouched(registry, recorder, A2)


def test_who_leaves_says_so_in_its_record(world: World) -> None:
    registry, recorder = watched(world)
    register(registry)
    registry.leave(host_id="a", name=A, departure=LEFT)
    answer = read(registry, recorder)
    assert answer.record == HostRecord(overlay=OVERLAY, word=LEFT, machine=HERE)


def test_a_goodbye_that_somebody_else_says_is_in_no_record(world: World) -> None:
    registry, recorder = watched(world)
    register(registry)
    world.put_junk(LEFT)
    answer = read(registry, recorder)
    assert answer.record == HostRecord(overlay=OVERLAY, word=A, machine=HERE)


def test_commands_read_records_and_steps(world: World) -> None:
    registry = world.open()
    register(registry)
    register(world.open(), B, host_id="b")
    records = registry.records()
    assert set(records) == {"a", "b"}
    assert set(registry.records(["b", "nobody"])) == {"b"}
    assert registry.made([A, "junk"]) == {A: records["a"].written}


def test_a_released_lease_takes_the_record_along(world: World) -> None:
    host = world.open()
    register(host)
    host.leave(host_id="a", name=A, departure=LEFT)
    host.close()
    operator = world.open()
    operator.release("a")
    assert not operator.records()


def test_a_moved_lease_leaves_a_record_that_says_nothing_and_its_new_hosts_alone(
    world: World,
) -> None:
    subnet = IPv4Network("192.168.0.0/24")
    registry, recorder = watched(world)
    overlay = registry.acquire("a", subnet)
    register(registry)
    registry.leave(host_id="a", name=A, departure=LEFT)
    register(registry, B, host_id="b")
    before = registry.records()["b"]
    assert registry.move("a", "b") == (overlay, None)
    after = registry.records()
    assert after["a"].record == HostRecord()
    assert after["b"] == before
    recorder.until(lambda seen: seen.of(HostChanged)[-1:] == [HostChanged("a")])


def test_a_lease_moved_by_force_takes_the_word_of_a_live_host(world: World) -> None:
    subnet = IPv4Network("192.168.0.0/24")
    registry, recorder = watched(world)
    registry.acquire("a", subnet)
    register(registry)
    with pytest.raises(IdentityHeld):
        registry.move("a", "b")
    assert vouched(registry, recorder, A)
    registry.move("a", "b", force=True)
    assert not vouched(registry, recorder, A)
    register(registry, A2)
    assert vouched(registry, recorder, A2)
