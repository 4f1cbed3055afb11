"""A fresh network for every test that needs a kernel."""

from collections.abc import Iterator

import pytest
from tests.support.netns import Net, network, require_root


@pytest.fixture
def net() -> Iterator[Net]:
    require_root()
    with network() as made:
        yield made
