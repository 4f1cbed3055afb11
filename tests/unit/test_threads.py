"""A thread that dies before it begins, as where memory has run out."""

import _thread
import threading
from collections.abc import Callable
from typing import Any

import pytest

from neti import threads


def test_whoever_begins_a_thread_that_dies_at_once_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    late: list[Callable[[], Any]] = []
    ran: list[str] = []

    def dies(run: Callable[[], Any], _arguments: tuple[()]) -> int:
        late.append(run)
        return 0

    monkeypatch.setattr(threads, "_PATIENCE", 0.0)
    with monkeypatch.context() as poor:
        poor.setattr(_thread, "start_new_thread", dies)
        with pytest.raises(RuntimeError, match="did not begin"):
            threads.begin(lambda: ran.append("late"))
    late.pop()()
    assert ran == []


def test_it_runs_beside() -> None:
    done = threading.Event()
    threads.begin(done.set)
    assert done.wait(10)
