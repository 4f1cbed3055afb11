"""What only the embedded registry has to stand: bad files, stopped and killed processes."""

import contextlib
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from tests.support.embedded_agent import name_of
from tests.support.recorder import PATIENCE, Recorder

from neti.clock import ManualClock
from neti.errors import RegistryError, RegistryUnavailable
from neti.registry import (
    SETTING_NAMES,
    Appeared,
    Event,
    Fresh,
    Session,
    SessionEnded,
    SettingRead,
    Snapshot,
    Stale,
    Vanished,
)
from neti.registry.embedded.registry import EmbeddedRegistry
from neti.registry.embedded.store import CHANGES_KEPT
from neti.registry.record import HostRecord, encode

Agent = subprocess.Popen[str]
A = "1.0a000001c6336401c0a80001.0.ec2.a"
B = "1.0a000002c6336402c0a80002.0.vpc.b"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


@contextlib.contextmanager
def opened(path: Path, seconds: float = 4.0) -> Iterator[EmbeddedRegistry]:
    registry = EmbeddedRegistry(path, session_seconds=seconds, timeout=5)
    try:
        yield registry
    finally:
        with contextlib.suppress(RegistryError):
            registry.close()


@contextlib.contextmanager
def agent(path: Path, host_id: str, mode: str, seconds: float = 1.0) -> Iterator[Agent]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.embedded_agent", path, host_id, str(seconds), mode],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def register(registry: EmbeddedRegistry, name: str = A, host_id: str = "a") -> None:
    registry.register(host_id=host_id, name=name, data=b"", detail=b"{}")


def words(process: Agent, count: int) -> list[list[str]]:
    assert process.stdout is not None
    return [process.stdout.readline().split()[1:] for _ in range(count)]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- files ---


def test_nobody_else_may_read_the_files(path: Path) -> None:
    with opened(path) as registry:
        recorder = Recorder()
        registry.watch(recorder)
        recorder.until_fresh()
        register(registry)
        files = list(path.parent.iterdir())
        assert {file.name for file in files} >= {
            "registry.db",
            "registry.db-sessions",
            "registry.db-bell",
        }
        for file in files:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_missing_folder_is_named_and_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "registry.db"
    with opened(path) as registry:
        with pytest.raises(RegistryUnavailable, match=r"missing/registry\.db.*folder"):
            registry.names()
        recorder = Recorder()
        registry.watch(recorder)
        recorder.until(lambda seen: len(seen.of(Stale)) == 1)
        assert "missing" in recorder.of(Stale)[0].reason
        path.parent.mkdir()
        recorder.until_fresh()


def test_a_folder_in_the_files_place_is_one_clear_error(tmp_path: Path) -> None:
    with opened(tmp_path) as registry, pytest.raises(RegistryUnavailable, match=str(tmp_path)):
        registry.names()


@pytest.mark.parametrize(
    "content", [b"neti" * 1000, b"\0" * 4096, b"SQLite format 3\0" + b"?" * 999]
)
def test_a_damaged_file_is_one_clear_error_and_not_overwritten(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with opened(path) as registry:
        with pytest.raises(RegistryError, match=r"registry\.db"):
            registry.names()
        recorder = Recorder()
        registry.watch(recorder)
        recorder.until(lambda seen: len(seen.of(Stale)) == 1)
        assert not recorder.of(Fresh)
    assert path.read_bytes() == content


def test_another_programs_database_is_left_alone(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (value)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with opened(path) as registry, pytest.raises(RegistryError, match="another program"):
        registry.names()
    assert sqlite3.connect(path).execute("SELECT name FROM sqlite_master").fetchall() == [
        ("theirs",)
    ]
    assert path.read_bytes()[100:] == before[100:]


def test_a_file_of_an_earlier_version_has_its_leases_first(path: Path) -> None:
    """It does not know their order. An earlier version uses the file meanwhile, too."""
    subnet = IPv4Network("192.168.0.0/24")
    with opened(path) as registry:
        registry.acquire("b", subnet, prefer=subnet[9])
        registry.acquire("a", subnet, prefer=subnet[8])
        assert list(registry.leases().values()) == ["b", "a"]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as store:
        store.execute("DROP TABLE lease_order")
    with opened(path) as registry:
        registry.acquire("d", subnet, prefer=subnet[7])
        assert list(registry.leases().values()) == ["a", "b", "d"]
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as store:
            store.execute("INSERT INTO leases VALUES (?, 'c')", (int(subnet[6]),))
            store.execute("DELETE FROM leases WHERE host_id = 'd'")
        assert list(registry.leases().values()) == ["c", "a", "b"]


def test_a_record_that_names_another_hosts_entry_takes_it_from_nobody(path: Path) -> None:
    """When the key that it says is revoked."""
    key = "A" * 42 + "8"
    with opened(path) as registry, opened(path) as other:
        register(registry)
        other.register(
            host_id="b",
            name=B,
            data=b"",
            detail=b"{}",
            overlay=IPv4Address("192.168.0.2"),
            machine="00ff",
            key=key,
        )
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as store:
            says = encode(HostRecord(word=A, key=key))
            store.execute("UPDATE records SET record = ? WHERE host_id = 'b'", (says,))
        assert registry.revoke_key("b") is not None
        assert A in registry.names()


def test_another_format_is_left_alone(path: Path) -> None:
    with opened(path) as registry:
        registry.names()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with opened(path) as registry, pytest.raises(RegistryError, match="format 99"):
        registry.names()


def test_files_that_are_removed_under_an_agent_are_noticed(path: Path) -> None:
    with opened(path) as registry:
        recorder = Recorder()
        registry.watch(recorder)
        recorder.until_fresh()
        register(registry)
        recorder.until_picture(A)
        mark = recorder.mark()
        for file in path.parent.iterdir():
            file.unlink(missing_ok=True)  # SQLite removes its own with the last user
        recorder.until(lambda seen: len(seen.of(Fresh)) == 2)
        recorder.until_picture()
        kinds = [type(event) for event in recorder.since(mark)]
        assert kinds.index(Stale) < kinds.index(SessionEnded) < kinds.index(Fresh)
        assert kinds.count(SettingRead) == len(SETTING_NAMES)  # another fleet's
        register(registry)
        recorder.until_picture(A)
        with opened(path) as other:
            assert other.names() == {A}


def test_many_may_make_a_new_file_at_once(path: Path) -> None:
    with contextlib.ExitStack() as stack:
        agents = [stack.enter_context(agent(path, f"h{n}", "watch")) for n in range(8)]
        with opened(path) as registry:
            recorder = Recorder()
            registry.watch(recorder)
            recorder.until(lambda seen: seen.picture == {name_of(f"h{n}", 1) for n in range(8)})
        assert all(process.poll() is None for process in agents)


# --- falling behind ---


def test_a_watcher_that_fell_behind_the_log_reads_all(path: Path) -> None:
    with opened(path) as registry, opened(path) as writer:
        held, go = threading.Event(), threading.Event()
        recorder = Recorder()

        def sink(event: Event) -> None:
            recorder(event)
            if isinstance(event, Fresh):
                held.set()
                go.wait(20)

        registry.watch(sink)
        assert held.wait(10)
        register(writer)
        store = sqlite3.connect(path, isolation_level=None)
        store.execute("BEGIN IMMEDIATE")
        store.execute("DELETE FROM changes")
        store.execute(f"UPDATE sqlite_sequence SET seq = seq + {CHANGES_KEPT}")
        store.execute("COMMIT")
        store.close()
        go.set()
        register(writer, B, "b")
        recorder.until_picture(A, B)
        assert len(recorder.of(Snapshot)) == 2
        assert recorder.doubts == []


def test_the_change_log_stays_short(path: Path) -> None:
    with opened(path) as registry:
        register(registry)
        store = sqlite3.connect(path, isolation_level=None)
        store.execute(f"UPDATE changes SET sequence = sequence - {CHANGES_KEPT}")
        register(registry, B, "b")
        assert store.execute("SELECT subject FROM changes").fetchall() == [("b",), (B,)]
        store.close()


# --- time ---


def renewed(sessions: sqlite3.Connection, session: Session, clock: ManualClock) -> bool:
    """Whether it has two thirds of its time-out left."""
    found = sessions.execute("SELECT deadline FROM sessions WHERE id = ?", (session.id,))
    return bool(found.fetchone()[0] >= clock.monotonic() + 20)


def test_a_session_that_is_not_renewed_ends_and_one_that_is_does_not(path: Path) -> None:
    clock = ManualClock()
    silent = EmbeddedRegistry(path, session_seconds=30, clock=clock)
    watching = EmbeddedRegistry(path, session_seconds=30, clock=clock)
    recorder = Recorder()
    watching.watch(recorder)
    session = recorder.until_fresh()
    register(silent)
    register(watching, B, "b")
    sessions = sqlite3.connect(f"{path}-sessions", isolation_level=None)
    for _ in range(4):
        clock.advance(9)
        # In real time: the thread looks at the injected clock once a second.
        eventually(partial(renewed, sessions, session, clock))
    sessions.close()
    recorder.until_picture(B)
    assert recorder.until_fresh() == session
    watching.close()
    silent.close()


def test_what_an_earlier_boot_left_has_ended(path: Path) -> None:
    with opened(path) as first:
        register(first)
        sessions = sqlite3.connect(f"{path}-sessions", isolation_level=None)
        sessions.execute("UPDATE sessions SET boot = 'earlier', deadline = 1e18")
        sessions.close()
        with opened(path) as second:
            recorder = Recorder()
            second.watch(recorder)
            recorder.until_fresh()
            recorder.until_picture()


# --- processes ---


def test_an_agent_stopped_for_longer_than_its_session_says_so_and_is_right_again(
    path: Path,
) -> None:
    with opened(path) as other, agent(path, "a", "watch") as process:
        recorder = Recorder()
        other.watch(recorder)
        recorder.until_picture(name_of("a", 1))
        process.send_signal(signal.SIGSTOP)
        recorder.until_picture()
        register(other, B, "b")
        process.send_signal(signal.SIGCONT)
        recorder.until_picture(B, name_of("a", 1))
        picture = ["Snapshot", *["SettingRead"] * len(SETTING_NAMES), "Fresh"]
        count = len(picture) + 5
        seen = words(process, count)
        kinds = [line[0] for line in seen]
        assert kinds[: len(picture)] == picture
        # It may have been stopped before it was told of its own registration.
        assert kinds.index("SessionEnded") < seen.index(["Vanished", name_of("a", 1)])
        assert seen[count - 3 : count] == [
            ["Vanished", name_of("a", 1)],
            ["Appeared", B],
            ["Fresh"],
        ]


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.02, 0.03, 0.05])
def test_an_agent_killed_amid_writes_leaves_a_valid_state_that_ends_with_its_session(
    path: Path, delay: float
) -> None:
    with opened(path) as other:
        recorder = Recorder()
        other.watch(recorder)
        recorder.until_fresh()
        with agent(path, "a", "churn") as process:
            recorder.until(lambda seen: len(seen.of(Appeared)) > 20)
            time.sleep(delay)
            process.kill()
            process.wait()
            # It may be killed between its commit and its ring, so ring for it.
            register(other, B, "b")
            recorder.until(lambda seen: seen.picture is not None and B in seen.picture)
            names = set(other.names())
            assert recorder.picture == names
            assert len(names) == 2
        recorder.until_picture(B)
        assert recorder.doubts == []
        assert len(recorder.of(Appeared)) == len(recorder.of(Vanished)) + 1
        assert other.details()[0].host_id == "b"


def test_what_a_killed_reaper_left_half_done_is_finished_by_the_next(path: Path) -> None:
    with opened(path) as first, opened(path) as second:
        register(first)
        sessions = sqlite3.connect(f"{path}-sessions", isolation_level=None)
        sessions.execute("DELETE FROM sessions")  # a reaper's first step, and then it was killed
        sessions.close()
        recorder = Recorder()
        second.watch(recorder)
        recorder.until_fresh()
        recorder.until_picture()
        assert second.details() == []


def all_renewed(path: Path) -> None:
    """Wait until each session has been renewed since now."""

    def deadlines() -> dict[int, float]:
        return dict(sessions.execute("SELECT id, deadline FROM sessions"))

    sessions = sqlite3.connect(f"{path}-sessions", isolation_level=None)
    before = deadlines()
    eventually(lambda: all(deadlines()[session] > at for session, at in before.items()))
    sessions.close()


def test_an_idle_agent_is_not_woken_by_others_renewals(path: Path) -> None:
    with opened(path) as registry, contextlib.ExitStack() as stack:
        recorder = Recorder()
        registry.watch(recorder)
        for number in range(6):
            stack.enter_context(agent(path, f"h{number}", "watch", 3.0))
        recorder.until(lambda seen: seen.picture is not None and len(seen.picture) == 6)
        all_renewed(path)  # the last ring follows its commit
        bell = path.with_name(f"{path.name}-bell").stat().st_mtime_ns
        for _ in range(2):
            all_renewed(path)
        assert path.with_name(f"{path.name}-bell").stat().st_mtime_ns == bell
        assert len(registry.names()) == 6
