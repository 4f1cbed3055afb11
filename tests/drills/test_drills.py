"""Every drill in its short form: what ``make drills`` asks at length, asked briefly each time."""

import random

import pytest
from tests.support.netns import require_root
from tests.support.zookeeper import need_zookeeper

from drills import runner

pytestmark = pytest.mark.drill


@pytest.mark.parametrize("name", runner.names())
def test_drill(name: str) -> None:
    """Every row is as it should be; a failing seed is in the message, and repeats the run."""
    require_root()
    need_zookeeper()
    seed = random.SystemRandom().getrandbits(32)
    outcome = runner.run_one(name, scale="short", seed=seed)
    wrong = [f"{row.what}: {row.figure}" for row in outcome.rows if not row.ok]
    assert outcome.ok, (
        f"seed {seed}: {wrong}; repeat: python -m drills --short --seed {seed} {name}"
    )
