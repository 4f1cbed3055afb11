"""How long what is to come about in a lab is waited for."""

import os
import time

import pytest

from neti_lab import LabError
from neti_lab.play import wait_for


class Clock:
    """Each poll takes a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += 1.0


@pytest.mark.parametrize(("load", "polls"), [(0.3, 11), (2.0, 11), (8.0, 41), (500.0, 61)])
def test_a_machine_that_has_too_much_to_do_is_given_time_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, load: float, polls: int
) -> None:
    clock, asked = Clock(), 0
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))

    def never() -> bool:
        nonlocal asked
        asked += 1
        return False

    with pytest.raises(LabError, match=rf"it does not come \(waited {polls} s\)"):
        wait_for(never, "it does not come", seconds=10.0)
    assert asked == polls + 1
