"""What every registry promises about hosts' public keys; see docs/design/road.md."""

import pytest
from tests.contract.test_host_records import A2, A3, HERE, OVERLAY, A, B, read, watched
from tests.support.recorder import Recorder
from tests.support.worlds import World

from neti.errors import KeyRevoked, KeyTaken, RegistryError
from neti.registry import KeyRead, Registry, Vanished
from neti.registry.record import HostRecord, KeyName
from neti.registry.revoked import RevokedKey, names

KEY = "A" * 42 + "8"
OTHER = "-_" * 21 + "0"


def register_with(registry: Registry, key: str, name: str = A, *, host_id: str = "a") -> None:
    registry.register(
        host_id=host_id,
        name=name,
        data=b"",
        detail=b"{}",
        overlay=OVERLAY,
        machine=HERE,
        key=key,
    )


def holder(registry: Registry, recorder: Recorder, key: str) -> str | None:
    mark = recorder.mark()
    registry.ask([KeyName(key)])
    recorder.until(lambda seen: any(isinstance(e, KeyRead) for e in seen.since(mark)))
    answer = next(e for e in recorder.since(mark) if isinstance(e, KeyRead))
    assert answer.key == key
    return answer.host_id


def test_the_record_says_the_key_and_the_key_says_the_host(world: World) -> None:
    registry, recorder = watched(world)
    assert holder(registry, recorder, KEY) is None
    register_with(registry, KEY)
    assert read(registry, recorder).record == HostRecord(
        overlay=OVERLAY, word=A, machine=HERE, key=KEY
    )
    assert holder(registry, recorder, KEY) == "a"


def test_a_key_that_another_host_published_is_taken(world: World) -> None:
    registry, recorder = watched(world)
    register_with(registry, KEY)
    other = world.open()
    with pytest.raises(KeyTaken, match="belongs to a in this registry"):
        register_with(other, KEY, B, host_id="b")
    assert read(registry, recorder, "b").record is None
    assert registry.names() == {A}
    assert holder(registry, recorder, KEY) == "a"
    register_with(other, OTHER, B, host_id="b")
    assert holder(registry, recorder, OTHER) == "b"


def test_a_host_keeps_its_key_and_may_take_another(world: World) -> None:
    registry, recorder = watched(world)
    register_with(registry, KEY)
    register_with(registry, KEY, A2)
    after = read(registry, recorder).record
    assert after is not None
    assert after.key == KEY
    register_with(registry, OTHER, A3)
    again = read(registry, recorder).record
    assert again is not None
    assert again.key == OTHER
    assert holder(registry, recorder, OTHER) == "a"
    assert holder(registry, recorder, KEY) == "a"  # so that nobody else publishes what it had


def test_a_repeated_registration_does_not_change_the_key(world: World) -> None:
    """A record changes only together with the entry, or nothing would vouch for that."""
    registry, recorder = watched(world)
    register_with(registry, KEY)
    register_with(registry, OTHER)
    record = read(registry, recorder).record
    assert record is not None
    assert record.key == KEY
    assert holder(registry, recorder, OTHER) is None


def test_who_leaves_keeps_its_key(world: World) -> None:
    registry, recorder = watched(world)
    register_with(registry, KEY)
    registry.leave(host_id="a", name=A, departure="left.0.a")
    record = read(registry, recorder).record
    assert record is not None
    assert record.key == KEY
    assert holder(registry, recorder, KEY) == "a"


def test_a_revoked_key_is_nobodys_any_more(world: World) -> None:
    """Nor the host's own; it keeps everything else, and registers with another."""
    registry, recorder = watched(world)
    register_with(registry, KEY)
    operator = world.open()
    mark = recorder.mark()
    assert operator.revoke_key("a") == RevokedKey(KEY, said=KEY)
    assert operator.revoke_key("a") is None
    assert names(operator.setting("revoked"), KEY)
    recorder.until(lambda seen: Vanished(A) in seen.since(mark))
    assert registry.names() == set()
    for host_id, name in (("a", A2), ("b", B)):
        with pytest.raises(KeyRevoked, match="was revoked by an operator"):
            register_with(registry if host_id == "a" else world.open(), KEY, name, host_id=host_id)
    register_with(registry, OTHER, A2)
    assert holder(registry, recorder, OTHER) == "a"
    assert operator.revoke_key("nobody") is None


def test_the_key_of_a_host_that_left_can_be_revoked(world: World) -> None:
    """Its goodbye stays."""
    registry, _recorder = watched(world)
    register_with(registry, KEY)
    registry.leave(host_id="a", name=A, departure="left.0.a")
    before = registry.names()
    assert world.open().revoke_key("a") == RevokedKey(KEY, said=KEY)
    assert registry.names() == before


def test_a_key_that_nobody_holds_can_be_revoked_and_that_of_another_host_cannot(
    world: World,
) -> None:
    registry, _recorder = watched(world)
    register_with(registry, KEY)
    operator = world.open()
    with pytest.raises(RegistryError, match="is that of a, whose record says it"):
        operator.revoke_key("b", KEY)
    assert operator.revoke_key("b", OTHER) == RevokedKey(OTHER, said="")
    assert operator.names() == {A}
    assert operator.revoke_key("b", OTHER) is None
    with pytest.raises(KeyRevoked):
        register_with(registry, OTHER, A2)
