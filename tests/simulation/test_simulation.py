"""The simulation itself: what a seed draws it draws again, and what is done ends the same way."""

import inspect
from typing import Final

import pytest
from simulation.acts import Act, Stage, perform
from simulation.every_act import EVERY
from simulation.run import drawn, play
from simulation.truth import Truth
from simulation.world import World

from neti.dataplane import way_out
from simulation import doors

# In this order: some take away what an earlier one made.
_HOSTILE: Final = ("junk", "no_junk", "forge", "forge_goodbye", "strangers", "strangers_vanish")


def test_a_seed_repeats() -> None:
    size, acts = drawn("7", 60)
    assert (size, acts) == drawn("7", 60)
    first, again = (play(size, acts, to_the_end=False) for _ in range(2))
    assert first.story == again.story
    assert first.effects == again.effects
    assert first.kills


def test_every_act_reads_as_a_sentence_and_works_alone() -> None:
    """No act needs another one before it."""
    from random import Random

    for name, kind in EVERY.items():
        act = Act(name, 0 if kind.of_host else -1, kind.draw(Random(1)))
        outcome = play(3, [act], to_the_end=False)
        assert outcome.fault is None, f"{name}: {outcome.fault}"
        assert len(outcome.story) == 1


def test_a_hostile_member_has_no_more_rights_than_the_registry_gives_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It makes names, and takes its own away. What others made, their records and leases it leaves
    alone; tests/zookeeper/test_security.py holds the real registry to that."""
    from random import Random

    with doors.shut():
        world = World(4)
        for host in world.hosts:
            host.start()
        world.settle()
        stage = Stage(world, Truth())
        stage.truth.look(world)
        perform(stage, Act("strict_on"))
        names, leases = dict(world.server._names), dict(world.server._leases)
        records = dict(world.server._records)
        assert len(names) == len(leases) == len(records) == 4
        monkeypatch.setattr(World, "settle", lambda _: None)  # nobody answers meanwhile
        made = 0
        for kind in _HOSTILE:
            what = EVERY[kind]
            for number in range(20):
                perform(stage, Act(kind, 0 if what.of_host else -1, what.draw(Random(number))))
                made = max(made, len(world.server._names))
                assert names.items() <= world.server._names.items(), kind
                assert records.items() <= world.server._records.items(), kind
                assert leases.items() <= world.server._leases.items(), kind
        assert made > len(names) + 10
        world.close()


def test_commands_without_an_agent_find_every_way_out() -> None:
    """What ``down``, ``relax`` and ``up`` ask of the kernel by themselves."""
    real = {
        name
        for name, what in vars(way_out).items()
        if inspect.isfunction(what) and what.__module__ == way_out.__name__ and name[0] != "_"
    }
    assert real == {name for name in vars(doors.WayOut) if name[0] != "_"}
