"""Every drill in its short form: what ``make drills`` asks at length, asked briefly each time."""

from collections.abc import Callable

import pytest
from tests.support import drill_player
from tests.support.netns import require_root
from tests.support.zookeeper import need_zookeeper

from drills import runner

pytestmark = pytest.mark.drill


@pytest.mark.parametrize("name", runner.names())
def test_drill(name: str, record_property: Callable[[str, object], None]) -> None:
    """Every row is as it should be; how to repeat the run is in the summary."""
    require_root()
    need_zookeeper()
    played = drill_player.outcome(name)
    record_property("repeat", played.repeat)
    assert played.code == 0, played.said
