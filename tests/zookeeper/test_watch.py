"""The extension of kazoo: recursive watches, one order, and going without ending the session."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from tests.support.recorder import PATIENCE
from tests.support.zookeeper import ZooKeeperWorld

from neti.registry.zookeeper.requests import (
    CHANGED,
    CREATED,
    DELETED,
    PERSISTENT,
    PERSISTENT_RECURSIVE,
    AddWatch,
    ListNames,
)
from neti.registry.zookeeper.watch import StreamClient

pytestmark = pytest.mark.zookeeper


class Heard:
    """A listener that keeps everything, and the threads it was told in."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.threads: set[int] = set()
        self._changed = threading.Condition()

    def add(self, event: Any) -> None:
        with self._changed:
            self.events.append(event)
            self.threads.add(threading.get_ident())
            self._changed.notify_all()

    def on_event(self, kind: int, path: str) -> None:
        self.add((kind, path))

    def on_state(self, state: str) -> None:
        self.threads.add(threading.get_ident())

    def on_failure(self, reason: str) -> None:
        return

    def on_taken(self) -> None:
        return

    def until(self, condition: Callable[[list[Any]], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.events), PATIENCE), self.events


@contextmanager
def connected(world: ZooKeeperWorld, heard: Heard) -> Iterator[StreamClient]:
    client = StreamClient(world.server.hosts, heard, session_seconds=4, session=None)
    client.start_async()
    assert client.wait_connected(10)
    try:
        yield client
    finally:
        client.finish(end_session=True, seconds=5)


def test_a_recursive_watch_tells_of_everything_below_and_goes_on(world: ZooKeeperWorld) -> None:
    heard = Heard()
    root = world.prefix
    world.client.ensure_path(root)
    with connected(world, heard) as client:
        client.submit(AddWatch(root, PERSISTENT_RECURSIVE), heard.add)
        heard.until(lambda events: events == [True])
        for _ in range(2):
            world.client.create(f"{root}/a")
            world.client.create(f"{root}/a/b")
            world.client.set(f"{root}/a", b"x")
            world.client.delete(f"{root}/a", recursive=True)
        once = [
            (CREATED, f"{root}/a"),
            (CREATED, f"{root}/a/b"),
            (CHANGED, f"{root}/a"),
            (DELETED, f"{root}/a/b"),
            (DELETED, f"{root}/a"),
        ]
        heard.until(lambda events: events[1:] == once * 2)


def test_a_persistent_watch_tells_of_a_node_that_does_not_exist_yet(world: ZooKeeperWorld) -> None:
    heard = Heard()
    world.client.ensure_path(world.prefix)
    path = f"{world.prefix}/interval"
    with connected(world, heard) as client:
        client.submit(AddWatch(path, PERSISTENT), heard.add)
        heard.until(lambda events: events == [True])
        world.client.create(path, b"1")
        world.client.set(path, b"2")
        world.client.delete(path)
        heard.until(
            lambda events: events[1:] == [(CREATED, path), (CHANGED, path), (DELETED, path)]
        )


def test_events_and_answers_come_in_one_order_in_one_thread(world: ZooKeeperWorld) -> None:
    heard = Heard()
    root = world.prefix
    world.client.ensure_path(root)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            world.client.create(f"{root}/n{number}")
            number += 1

    with connected(world, heard) as client:
        client.submit(AddWatch(root, PERSISTENT_RECURSIVE), heard.add)
        heard.until(lambda events: events == [True])
        writer = threading.Thread(target=write)
        writer.start()
        for count in range(300):
            client.submit(ListNames(root), heard.add)
            heard.until(partial(_answered, count + 1))
        stop.set()
        writer.join()
    created = 0
    for event in heard.events[1:]:
        if isinstance(event[0], int):
            created += 1
        else:
            assert len(event[0]) == created
    assert len(heard.threads) == 1


def _answered(count: int, events: list[Any]) -> bool:
    return sum(1 for e in events if e is not True and not isinstance(e[0], int)) == count


def test_a_dropped_connection_leaves_the_session_and_no_threads(world: ZooKeeperWorld) -> None:
    world.client.ensure_path(world.prefix)
    before = set(threading.enumerate())
    client = StreamClient(world.server.hosts, Heard(), session_seconds=4, session=None)
    client.start_async()
    assert client.wait_connected(10)
    session = client.session
    client.finish(end_session=False, seconds=5)
    client.finish(end_session=False, seconds=5)
    again = StreamClient(world.server.hosts, Heard(), session_seconds=4, session=session)
    again.start_async()
    assert again.wait_connected(10)
    assert again.session == session
    again.finish(end_session=True, seconds=5)
    assert set(threading.enumerate()) == before


def test_stopping_while_there_is_no_server_is_quick(world: ZooKeeperWorld) -> None:
    client = StreamClient("127.0.0.1:1", Heard(), session_seconds=4, session=None)
    client.start_async()
    assert not client.wait_connected(0.3)
    client.finish(end_session=True, seconds=5)
    assert client._connection.connection_stopped.is_set()


def test_a_server_that_accepts_and_never_answers_is_left(world: ZooKeeperWorld) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE)
        client = StreamClient(
            f"127.0.0.1:{silent.getsockname()[1]}", Heard(), session_seconds=4, session=None
        )
        client.start_async()
        connections = [silent.accept()[0] for _ in range(2)]
        client.finish(end_session=True, seconds=5)
        for connection in connections:
            connection.close()


def test_a_listener_that_fails_does_not_end_the_connection(world: ZooKeeperWorld) -> None:
    class Failing(Heard):
        def on_event(self, kind: int, path: str) -> None:
            super().on_event(kind, path)
            raise ValueError("a bug")

    heard = Failing()
    root = world.prefix
    world.client.ensure_path(root)
    with connected(world, heard) as client:
        client.submit(AddWatch(root, PERSISTENT_RECURSIVE), heard.add)
        heard.until(lambda events: events == [True])
        world.client.create(f"{root}/a")
        world.client.create(f"{root}/b")
        heard.until(lambda events: len(events) == 3)
