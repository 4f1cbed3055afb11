"""The thread that reads from ZooKeeper goes on, whatever is raised in it."""

import threading

import pytest
from kazoo.exceptions import ConnectionDropped

from neti.registry.zookeeper import watch


class _Heard:
    def __init__(self) -> None:
        self.failures: list[str] = []
        self.refused = threading.Event()

    def on_event(self, kind: int, path: str) -> None: ...

    def on_state(self, state: str) -> None: ...

    def on_failure(self, reason: str) -> None:
        self.failures.append(reason)
        if "refused" in reason:
            self.refused.set()

    def on_taken(self) -> None: ...


def test_a_thread_that_breaks_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_LONGEST_PAUSE", 0.01)
    heard, breaks = _Heard(), [OSError(12, "Cannot allocate memory"), MemoryError()]
    session = (7, b"word")
    client = watch.StreamClient("127.0.0.1:1", heard, session_seconds=6, session=session)
    connection = client._connection
    whole = connection._expand_client_hosts

    def expand() -> object:
        if breaks:
            raise breaks.pop(0)
        return whole()

    monkeypatch.setattr(connection, "_expand_client_hosts", expand)
    client.start_async()
    try:
        assert heard.refused.wait(20)
        assert "Cannot allocate memory" in heard.failures[0]
        assert "MemoryError" in heard.failures[1]
        assert client.session == session
    finally:
        client.finish(end_session=False, seconds=10)
    assert connection._connection_routine is None


@pytest.mark.parametrize(("secure", "hint"), [(False, True), (True, False)])
def test_a_server_that_hangs_up_may_expect_tls(secure: bool, hint: bool) -> None:
    said = watch._in_words(ConnectionDropped("socket connection broken"), secure=secure)
    assert said.startswith("the server ended the connection")
    assert ("registry_tls" in said) == hint
