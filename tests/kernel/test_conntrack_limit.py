"""conntrack_max where it cannot be set: a namespace of its own, on the real kernel."""

import os
from pathlib import Path

import pytest
from tests.support.netns import Net

from neti.dataplane.conntrack import load_tracking
from neti.dataplane.conntrack_limit import ConntrackLimit, Paths, read_fill

pytestmark = pytest.mark.kernel


def test_a_namespace_keeps_the_machines_limit(net: Net, tmp_path: Path) -> None:
    """Said in one sentence; nothing is written, neither there nor to the state folder."""

    def inside() -> tuple[str, ...]:
        # Where the kernel would let it be written, this test must not go on: it is the machine's.
        assert not os.access(Paths().limit, os.W_OK)
        return ConntrackLimit(tmp_path, load=load_tracking).raise_to(2**31 - 1)

    before = Paths().limit.read_text()
    sentences = net.inside(net.host, inside)
    assert len(sentences) == 1
    assert "cannot be written here" in sentences[0]
    assert list(tmp_path.iterdir()) == []
    assert Paths().limit.read_text() == before


def test_asking_for_statistics_makes_the_table_appear(net: Net) -> None:
    """After load_tracking the kernel shows how full the table is, before any rule tracks."""

    def inside() -> int:
        load_tracking()
        fill = read_fill()
        assert fill is not None
        return fill.tracked

    assert net.inside(net.host, inside) == 0
