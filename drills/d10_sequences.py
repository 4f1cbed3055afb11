"""Random sequences of joins, leaves, moves, drops, restarts, outages: in the end all agree."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from drills import real_sequences
from drills.drill import Row, Rows, Run

_STEPS: Final = 100
TITLE = "random sequences: after quiet, kernel = registry = model"


def run(drill: Run) -> Rows:
    yield _in_memory(drill, drill.of(full=1000, short=30))
    for registry in real_sequences.KINDS:
        for number in range(drill.of(full=4, short=1)):
            steps = drill.of(full=20, short=6)
            yield real_sequences.row(drill, registry, number, steps)


def _in_memory(drill: Run, count: int) -> Row:
    """The bulk of them, by the simulation (docs/design/simulation.md). A process of its own has the
    same order of a set each time."""
    asked = ["--seeds", str(count), "--first", str(drill.seed), "--steps", str(_STEPS)]
    asked += ["--largest", "6", "--lately"]  # kinds that make test does not draw yet, too
    ran = subprocess.run(
        [sys.executable, "-m", "simulation", *asked],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = (ran.stdout + ran.stderr).strip().splitlines()
    if ran.returncode == 0:
        said = next((line for line in lines if " seeds from " in line), "")
        return Row("in memory", said, True)
    return Row("in memory", f"python -m simulation {' '.join(asked)}: {' '.join(lines[:2])}", False)
