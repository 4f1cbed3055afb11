"""Several drills at once, each in a process of its own, whose id its networks and folders bear.

Must never do: leave a drill behind that plays on. A lane ends with whoever started it, however that
one ends, and takes down what it built.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

from drills import leftovers, runner
from drills.drill import PREFIX, Row, Scale
from drills.runner import Outcome

# At length. The first two go on for more than ten minutes each, whatever the machine; the others
# are in the order of what they do. They begin first, so that no lane is left with a long one.
LONGEST: Final = (
    *("d04_dead_agent", "d05_weather", "d08_junk", "d01_way_in", "d16_road", "d06_mass_loss"),
    *("d13_way_out", "d15_encrypted", "d14_hostile_member", "d10_sequences"),
)
# Nothing else plays beside it: how fast a table of 16,000 members is repaired, again and again,
# is a promise about a machine that has a processor to spare.
ALONE: Final = frozenset({"d03_streams"})
COMMAND: Final = (sys.executable, "-m", "drills.lanes")  # a lane: drill, scale, seed, where to tell
_ROOT: Final = Path(__file__).parents[1]
_EVERY: Final = 0.1  # seconds between two looks at who has ended
_TEARDOWN: Final = 120.0  # seconds that a lane may take from being told to end


def play(
    names: Iterable[str],
    lanes: int,
    *,
    scale: Scale,
    seed: int,
    say: Callable[[str], None] = lambda text: None,
) -> Generator[Outcome, None, None]:
    """Each drill's outcome as it ends. Whoever closes the iterator ends those that still play."""
    waiting = sorted(names, key=rank)
    playing: list[_Lane] = []
    folder = tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-")
    with folder, _ended(playing):
        while waiting or playing:
            while waiting and _room(waiting[0], playing, lanes):
                say(f"{waiting[0]} begins")
                playing.append(_begun(waiting.pop(0), Path(folder.name), scale, seed))
            for lane in [lane for lane in playing if lane.process.poll() is not None]:
                playing.remove(lane)
                yield lane.outcome()
            time.sleep(_EVERY)


@contextlib.contextmanager
def _ended(playing: "list[_Lane]") -> Iterator[None]:
    """Whoever plays at the end of it: all are told, and all waited for. Not for ever, as nobody can
    interrupt it: one that hangs is killed, and what it built is taken down here."""
    try:
        yield
    finally:
        with runner.undisturbed():
            for lane in playing:
                lane.process.terminate()
            deadline = time.monotonic() + _TEARDOWN
            killed = [lane for lane in playing if not lane.has_ended(deadline)]
            if killed:
                leftovers.clear()


def rank(name: str) -> int:
    """The lower, the sooner it begins."""
    if name in ALONE:
        return len(LONGEST) + 1
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def _room(name: str, playing: "Sequence[_Lane]", lanes: int) -> bool:
    if name in ALONE or any(lane.name in ALONE for lane in playing):
        return not playing
    return len(playing) < lanes


@dataclass(frozen=True, slots=True)
class _Lane:
    name: str
    process: "subprocess.Popen[bytes]"
    told: Path

    def has_ended(self, deadline: float) -> bool:
        """By itself. It is killed, with its children, if not by then."""
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            return False
        return True

    def outcome(self) -> Outcome:
        """What it told; a drill that did not finish where its process ended before that."""
        cast("IO[bytes]", self.process.stdin).close()
        if self.process.returncode == 0:
            return cast("Outcome", pickle.loads(self.told.read_bytes()))
        leftovers.clear()
        figure = f"its process ended with {self.process.returncode}"
        rows = [Row("the drill did not finish", figure, False)]
        return Outcome(self.name, runner.load(self.name).TITLE, rows)


def _begun(name: str, folder: Path, scale: Scale, seed: int) -> _Lane:
    """In a session of its own, which no Ctrl-C reaches: it is told to end once, and no more."""
    told = folder / name
    words = [*COMMAND, name, scale, str(seed), str(told)]
    process = subprocess.Popen(words, cwd=_ROOT, stdin=subprocess.PIPE, start_new_session=True)
    return _Lane(name, process, told)


# --- in the process of a lane ---


def main(name: str, scale: Scale, seed: int, told: Path) -> int:
    signal.signal(signal.SIGTERM, runner.interrupt)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        outcome = runner.run_one(name, scale=scale, seed=seed)
    except KeyboardInterrupt:
        return 130
    told.write_bytes(pickle.dumps(outcome))
    return 0


def _end_with_parent() -> None:
    """Nobody writes there: its end is that of whoever started this one. If the teardown hangs, the
    next run finds what is left."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_TEARDOWN)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], cast("Scale", sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
