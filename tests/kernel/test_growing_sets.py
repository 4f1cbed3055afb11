"""A set that was just filled, read while the kernel still spreads it over a larger table."""

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from tests.support.netns import Net

from neti.dataplane.netlink import NetlinkSocket
from neti.dataplane.nftables import NftablesDataplane
from neti.model.settings import Settings
from neti.ruleset.objects import AddElements, CreateTable, Transaction
from neti.ruleset.policy import structure
from neti.ruleset.set_names import SetName
from neti.ruleset.surroundings import Surroundings

STRUCTURE = structure(
    Settings(path=Path("neti.yml")), Surroundings(uplinks=("eth0",), ssh_untracked=True)
)
MEMBERS = 16_382
LARGE = 16_384  # bytes: nothing but a part of a long list is
ROUNDS = 5


@contextmanager
def before_its_table_grows() -> Iterator[None]:
    """This thread is the only one of its processor that runs, but for when it sleeps: the kernel's
    worker that grows tables waits for that."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def let_the_worker_in(kernel: NetlinkSocket) -> None:
    """Between two parts of a list, so that the rest of it is in another order."""
    received = kernel._received

    def with_a_pause() -> bytes:
        datagram = received()
        if len(datagram) > LARGE:
            time.sleep(0.002)
        return datagram

    kernel._received = with_a_pause  # type: ignore[method-assign]


@pytest.fixture
def _real_time() -> None:
    """Otherwise the worker is let in, and the test proves nothing."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        reason = "real-time scheduling is forbidden here"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.mark.usefixtures("_real_time")
def test_our_sets_are_read_whole(net: Net) -> None:
    overlay, real = int(IPv4Address("192.168.0.1")), int(IPv4Address("10.0.0.1"))
    items = {str(IPv4Address(overlay + n)): str(IPv4Address(real + n)) for n in range(MEMBERS)}
    held: dict[SetName, dict[str, str]] = {
        "overlay": items,
        "peers4": dict.fromkeys(items.values(), ""),
    }

    def filled_and_read() -> list[tuple[SetName, int]]:
        short = []
        with closing(NftablesDataplane()) as dataplane:
            let_the_worker_in(dataplane._kernel)
            for _ in range(ROUNDS):
                dataplane.apply(Transaction((CreateTable(STRUCTURE),)))
                with before_its_table_grows():
                    dataplane.apply(Transaction(tuple(AddElements(w, i) for w, i in held.items())))
                    found = dataplane.read().elements
                short += [(w, len(found[w])) for w, i in held.items() if found[w] != i]
                dataplane.remove()
        return short

    assert net.inside(net.host, filled_and_read) == []
