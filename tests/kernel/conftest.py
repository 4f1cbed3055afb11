"""Fresh networks for tests that need a kernel."""

from collections.abc import Iterator

import pytest
from tests.support.gateway_net import EVERY, OPEN, A, B, Fleet, fleet
from tests.support.netns import Net, network, require_root


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
