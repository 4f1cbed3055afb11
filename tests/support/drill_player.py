"""Plays the short drills beside the tests, from the beginning of a run; their tests come last.

Drills wait more than they work, so two at a time run beside each other, each a process of its own
with networks of its own; one at a time where labs run meanwhile, whose time-outs are real.
Where tests go to several workers, the process that hands them out plays, because it outlives all
workers. Must never do: leave a drill running when the tests have ended.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Final

from tests.support.front import started_in_front

ROOT: Final = Path(__file__).parents[2]
_FOLDER: Final = "NETI_TEST_DRILLS"  # in the environment: where outcomes are put
_SECONDS: Final = 600.0  # for a slow machine: the longest takes a minute and a half there
_PATIENCE: Final = 3000.0  # for all of them


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one drill: its exit code, what it printed, and the command that repeats it."""

    code: int
    said: str
    repeat: str


class DrillPlayer:
    """Made before the workers are: they find it by the environment."""

    def __init__(self, at_once: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="neti-test-drills-")
        os.environ[_FOLDER] = self._folder.name
        self._lock = Lock()
        self._ended = False
        self._processes: list[subprocess.Popen[str]] = []
        self._pool = ThreadPoolExecutor(at_once)
        self._begun: set[str] = set()

    def begin(self, names: Sequence[str]) -> None:
        """In this order. Those that were begun are not begun again."""
        for name in names:
            if name not in self._begun:
                self._begun.add(name)
                self._pool.submit(self._play, name)

    def end(self) -> None:
        """By SIGTERM, on which a drill takes down what it built."""
        with self._lock:
            self._ended = True
            for process in self._processes:
                process.terminate()
        self._pool.shutdown()
        self._folder.cleanup()

    def _play(self, name: str) -> None:
        path = _path(self._folder.name, name)
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(asdict(self._outcome(name))))
        scratch.replace(path)

    def _outcome(self, name: str) -> Outcome:
        seed = random.SystemRandom().getrandbits(32)
        words = [sys.executable, "-m", "drills", "--short", "--seed", str(seed), name]
        repeat = f"python -m drills --short --seed {seed} {name}"
        with self._lock:
            if self._ended:
                return Outcome(1, "not begun", repeat)
            process = started_in_front(
                words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            self._processes.append(process)
        try:
            said, _ = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate()
            said += f"\nnot at its end after {_SECONDS:.0f} s"
        return Outcome(process.returncode, said, repeat)


def outcome(name: str) -> Outcome:
    """Waits for it, in whichever process."""
    path, deadline = _path(os.environ[_FOLDER], name), time.monotonic() + _PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline, f"{name} was not played"
        time.sleep(0.1)
    return Outcome(**json.loads(path.read_text()))


def _path(folder: str, name: str) -> Path:
    return Path(folder) / f"{name}.json"
