"""An overlay address goes to another host, in one command that may be cut off anywhere."""

import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from tests.support.agents import Box, World

from neti.errors import NetiError, RegistryUnavailable
from neti.oneshot.moving import ANSWERS_WITHIN, Move, Step, Stopped
from neti.oneshot.retiring import back, retired
from neti.registry.memory import MemoryRegistry


@dataclass
class Three:
    world: World
    peer: Box
    old: Box
    new: Box
    overlay: IPv4Address
    registry: MemoryRegistry

    def move(self) -> Move:
        return Move(
            registry=self.registry,
            old=self.old.host.id,
            new=self.new.host.id,
            session_seconds=30.0,
            sleep=self.world.pass_time,
            clock=self.world.clock.monotonic,
        )

    def led(self) -> dict[str, str]:
        """Where the peer sends to, by overlay address."""
        members = self.peer.running.core.members.fleet.members.values()
        return {str(one.overlay): one.id for one in members}


@pytest.fixture
def three(tmp_path: Path) -> Three:
    world = World(tmp_path)
    peer, old, new = world.crowd([1, 2, 3])
    overlay = old.running.core.members.overlay
    assert overlay is not None
    return Three(world, peer, old, new, overlay, MemoryRegistry(world.server))


def done(steps: list[Step]) -> dict[str, bool]:
    return {step.name: step.done for step in steps}


ALL = {"noted": True, "moved": True, "answers": True, "out": True}


def test_the_address_leads_to_the_new_host_and_the_old_one_is_out(three: Three) -> None:
    move = three.move()
    assert done(list(move.steps())) == ALL
    assert three.led()[str(three.overlay)] == three.new.host.id
    assert three.old.host.id not in three.led().values()
    assert three.old.running._stopping
    assert three.new.running.core.members.overlay == three.overlay
    assert move.overlay == three.overlay
    assert move.freed is not None
    assert three.registry.lease_of(three.old.host.id) is None


@pytest.mark.parametrize("after", range(4))
def test_cut_off_behind_any_step_the_same_command_goes_on(three: Three, after: int) -> None:
    first = three.move().steps()
    for _ in range(after):
        next(first)
    first.close()
    three.world.settle()
    again = list(three.move().steps())
    assert done(again) == ALL
    assert [step.before for step in again[:2]] == [after > 0, after > 1]
    assert three.led()[str(three.overlay)] == three.new.host.id


def test_said_once_more_it_moves_nothing_again(three: Three) -> None:
    """Nor when the old host's agent, of a version before, has another address meanwhile."""
    three.old.running.following._retiring.take = lambda value: None  # type: ignore[method-assign]
    first = done(list(three.move().steps()))
    assert first == {**ALL, "out": False}
    other = three.registry.lease_of(three.old.host.id)
    assert other not in (None, three.overlay)
    assert done(list(three.move().steps())) == {**ALL, "out": False}
    assert three.registry.lease_of(three.old.host.id) == other
    assert three.registry.lease_of(three.new.host.id) == three.overlay


def test_a_dead_host_is_taken_out_before_its_session_ends(three: Three) -> None:
    session = three.old.registry._session
    assert session is not None
    three.old.stop()
    seen = list[bool]()

    def sleep(seconds: float) -> None:
        three.world.pass_time(seconds)
        seen.append(three.led().get(str(three.overlay)) == three.new.host.id)
        three.world.server.expire(session)

    move = three.move()
    move.sleep = sleep
    assert done(list(move.steps())) == ALL
    assert three.led()[str(three.overlay)] == three.new.host.id
    assert seen[0], "peers did not wait for the session's end"


def test_a_new_host_that_does_not_register_is_named(three: Three) -> None:
    three.new.stop()
    begun = three.world.clock.monotonic()
    assert done(list(three.move().steps())) == {**ALL, "answers": False}
    assert three.world.clock.monotonic() - begun >= ANSWERS_WITHIN


def test_a_host_without_a_lease_changes_nothing(three: Three) -> None:
    move = three.move()
    move.old = "nobody"
    with pytest.raises(NetiError, match="holds no lease"):
        list(move.steps())
    assert not retired(three.registry)


@pytest.mark.parametrize(("new", "why"), [("ec2-2", "holds its lease already"), ("a b", "no host")])
def test_a_move_that_makes_no_sense_writes_nothing(three: Three, new: str, why: str) -> None:
    move = three.move()
    move.new = new
    with pytest.raises(NetiError, match=why):
        list(move.steps())
    assert three.registry.setting("retired") is None
    three.world.settle()
    assert three.led()[str(three.overlay)] == three.old.host.id


def test_what_fails_says_how_to_go_on_and_back(
    three: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise RegistryUnavailable("no answer")

    monkeypatch.setattr(three.registry, "move", away)
    with pytest.raises(Stopped) as stopped:
        list(three.move().steps())
    said = str(stopped.value).splitlines()
    assert said[1] == f"ec2-2 is out of the fleet, and {three.overlay} leads nowhere"
    assert said[2].startswith("→ neti lease move ec2-2 ec2-3 --take-out")
    assert said[3].startswith("→ neti retire --back ec2-2")
    assert set(retired(three.registry)) == {"ec2-2"}
    back(three.registry, ["ec2-2"], now=time.time())
    assert not retired(three.registry)
    three.old.stop()
    three.old.start()
    three.world.settle()
    assert three.led()[str(three.overlay)] == three.old.host.id
