"""The order in which ZooKeeper's answers become events, with a client that only writes down."""

from collections.abc import Callable
from typing import Any

from kazoo.protocol.serialization import GetData
from kazoo.protocol.states import KeeperState

from neti.registry import Event
from neti.registry.zookeeper.layout import Layout
from neti.registry.zookeeper.requests import CHANGED
from neti.registry.zookeeper.stream import Stream

LAYOUT = Layout.below(
    "/neti",
    iptoid="ip-to-id",
    idtoip="id-to-ip",
    ip_map="ip-map",
    interval="interval",
    maxchange="maxchange",
)


class Client:
    session = (1, b"password")

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def submit(self, request: Any, then: Callable[[Any], None]) -> None:
        self.asked.append(request)


def test_a_setting_that_changes_before_the_list_is_read_behind_it() -> None:
    """A release is about those who are gone: who hears of it first does not know them."""
    told: list[Event] = []
    stream, client = Stream(LAYOUT), Client()
    stream.client = client  # type: ignore[assignment]  # only what the stream calls
    stream.watch(told.append, hosts=False)
    stream._cversion = 5  # an earlier connection's list
    stream.on_state(KeeperState.CONNECTED)
    stream.on_event(CHANGED, LAYOUT.release)
    assert LAYOUT.release not in [one.path for one in client.asked if isinstance(one, GetData)]
    assert told == []
