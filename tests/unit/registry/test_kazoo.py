"""What Neti uses of kazoo that kazoo promises nobody: each by its name.

A new version of kazoo is let in (pyproject.toml) when this and tests/zookeeper pass with it.
"""

import inspect

import pytest
from kazoo.client import KazooClient
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.connection import STOP_CONNECTING, ConnectionHandler
from kazoo.protocol.serialization import CloseInstance, Connect

CLIENT = inspect.getsource(KazooClient)
CONNECTION = inspect.getsource(ConnectionHandler)

OVERRIDDEN = [
    (KazooClient, "_session_callback", ["self", "state"]),
    (ConnectionHandler, "zk_loop", ["self"]),
    (ConnectionHandler, "stop", ["self", "timeout"]),
    (ConnectionHandler, "_connect_attempt", ["self", "host", "hostip", "port", "retry"]),
    (ConnectionHandler, "_connect", ["self", "host", "hostip", "port"]),
    (ConnectionHandler, "_invoke", ["self", "timeout", "request", "xid"]),
    (ConnectionHandler, "_read_header", ["self", "timeout"]),
    (ConnectionHandler, "_read_watch_event", ["self", "buffer", "offset"]),
    (SequentialThreadingHandler, "select", ["self", "args", "kwargs"]),
    (SequentialThreadingHandler, "create_connection", ["self", "args", "kwargs"]),
]


@pytest.mark.parametrize(
    ("owner", "name", "parameters"), OVERRIDDEN, ids=[name for _, name, _ in OVERRIDDEN]
)
def test_what_is_overridden_is_there(owner: type, name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


@pytest.mark.parametrize(
    "name",
    [
        "_session_id",
        "_session_passwd",
        "_session_timeout",
        "_stopped",
        "_queue",
        "_pending",
        "_live",
        "_state",
        "_connection",
        "_conn_retry",
        "use_ssl",
        "keyfile_password",
        "verify_certs",
        "check_hostname",
    ],
)
def test_what_is_read_of_a_client_is_set_by_it(name: str) -> None:
    assert f"self.{name} = " in CLIENT or f"self.{name}," in CLIENT


@pytest.mark.parametrize("name", ["_socket", "_write_sock", "_connection_routine"])
def test_what_is_read_of_a_connection_is_set_by_it(name: str) -> None:
    assert (
        f"self.{name} = " in CONNECTION
        or f"self.{name}, " in CONNECTION
        or (f", self.{name} = " in CONNECTION)
    )


def test_what_is_called_is_there() -> None:
    assert list(inspect.signature(KazooClient._call).parameters) == [
        "self",
        "request",
        "async_object",
    ]
    assert "connection_stopped" in CONNECTION
    assert STOP_CONNECTING is not None


def test_kazoo_calls_what_is_overridden() -> None:
    for call in ("self._connect(", "self._connect_attempt(", "self._invoke(", "_read_watch_event("):
        assert call in CONNECTION
    for call in ("handler.select(", "handler.create_connection("):
        assert call in CONNECTION
    assert "_session_callback(KeeperState.EXPIRED_SESSION)" in CONNECTION


def test_the_first_request_is_as_it_is_written_by_hand() -> None:
    assert Connect._fields == (
        "protocol_version",
        "last_zxid_seen",
        "time_out",
        "session_id",
        "passwd",
        "read_only",
    )
    assert CloseInstance.type == -11
