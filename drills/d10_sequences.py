"""Random sequences of joins, leaves, moves, drops, restarts, outages: in the end all agree."""

import logging
import time
from random import Random

from drills import real_sequences, sequences
from drills.drill import Row, Rows, Run

TITLE = "random sequences: after quiet, kernel = registry = model"


def run(drill: Run) -> Rows:
    yield _in_memory(drill, drill.of(full=1_000, short=30))
    for registry in real_sequences.KINDS:
        for number in range(drill.of(full=4, short=1)):
            steps = drill.of(full=20, short=6)
            yield real_sequences.row(drill, registry, number, steps)


def _in_memory(drill: Run, count: int) -> Row:
    """The bulk of them."""
    logging.getLogger("neti").disabled = True  # thousands of agents would each tell their story
    began, steps = time.monotonic(), 0
    try:
        for number in range(count):
            name = f"{drill.seed}/{number}"
            found, log = sequences.faults_of(drill.folder(), Random(name))
            steps += len(log)
            if found:
                story = " · ".join(log)
                return Row(
                    "in memory", f"sequence {name}: {found[0]} ({len(found)}); {story}", False
                )
    finally:
        logging.getLogger("neti").disabled = False
    seconds = time.monotonic() - began
    return Row("in memory", f"{count} sequences, {steps:,} steps, {seconds:.0f} s", True)
