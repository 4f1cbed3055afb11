"""The simulation itself: what a seed draws it draws again, and what is done ends the same way."""

from simulation.acts import KINDS, Act
from simulation.run import drawn, play


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

    for name, kind in KINDS.items():
        act = Act(name, 0 if kind.of_host else -1, kind.draw(Random(1)))
        outcome = play(3, [act], to_the_end=False)
        assert outcome.fault is None, f"{name}: {outcome.fault}"
        assert len(outcome.story) == 1
