"""Fresh networks for tests that need a kernel."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.gateway_net import EVERY, OPEN, A, B, Fleet, fleet
from tests.support.netns import Net, network, require_root
from tests.support.yard import Yard


@pytest.fixture
def net() -> Iterator[Net]:
    require_root()
    with network() as made:
        yield made


@pytest.fixture
def two() -> Iterator[Fleet]:
    """Two sites with two gateways each, a host behind them in each, and an open one."""
    require_root()
    with fleet(*EVERY, A, B, OPEN) as made:
        yield made


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """Real agents on one embedded registry."""
    require_root()
    made = Yard(tmp_path)
    yield made
    made.close()
