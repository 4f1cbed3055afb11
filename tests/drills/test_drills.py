"""Every drill in its short form: what ``make drills`` asks at length, asked briefly each time.

Drills wait more than they work, so two at a time run beside each other, each a process of its own
with networks of its own, while their tests wait for them in turn.
"""

import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import pytest
from tests.support.netns import require_root
from tests.support.zookeeper import need_zookeeper

from drills import runner

pytestmark = pytest.mark.drill

ROOT = Path(__file__).parents[2]
_AT_ONCE = 2
_SECONDS = 600.0  # for a slow machine: the longest takes a minute and a half there


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one drill: its exit code, what it printed, and the command that repeats it."""

    code: int
    said: str
    repeat: str


class Running:
    """The drills' processes; none of them outlives ``end``."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._ended = False
        self._processes: list[subprocess.Popen[str]] = []

    def play(self, name: str) -> Outcome:
        seed = random.SystemRandom().getrandbits(32)
        words = [sys.executable, "-m", "drills", "--short", "--seed", str(seed), name]
        repeat = f"python -m drills --short --seed {seed} {name}"
        with self._lock:
            if self._ended:
                return Outcome(1, "not begun", repeat)
            process = subprocess.Popen(
                words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            self._processes.append(process)
        try:
            said, _ = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate()
            said += f"\nnot at its end after {_SECONDS:.0f} s"
        return Outcome(process.returncode, said, repeat)

    def end(self) -> None:
        """By SIGTERM, on which a drill takes down what it built."""
        with self._lock:
            self._ended = True
            for process in self._processes:
                process.terminate()


@pytest.fixture(scope="module")
def outcome(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Outcome]]:
    """Waits for the drill of that name; all that are asked for begin in order, two at a time."""
    require_root()
    need_zookeeper()
    asked: list[str] = [
        str(item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module
    ]
    running = Running()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        played: dict[str, Future[Outcome]] = {
            name: pool.submit(running.play, name) for name in asked
        }
        try:
            yield lambda name: played[name].result()
        finally:
            running.end()


@pytest.mark.parametrize("name", runner.names())
def test_drill(
    name: str, outcome: Callable[[str], Outcome], record_property: Callable[[str, object], None]
) -> None:
    """Every row is as it should be; how to repeat the run is in the summary."""
    played = outcome(name)
    record_property("repeat", played.repeat)
    assert played.code == 0, played.said
