"""Random sequences that once ended badly, step by step as they were drawn then.

A run of ``drills 10`` or of tests/drills that fails in memory says ``sequence SEED/NUMBER``: add it
here with the repair.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from drills import sequences

KEPT = (
    # An impostor's entry that vanished while nobody looked was named for ever.
    "1268933442/161",
    "2499008282/18",
    # A trial that ended while no agent looked was taken for a fault: an operator has to answer it.
    "2859757974/13",
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.getLogger("neti").disabled = True
    yield
    logging.getLogger("neti").disabled = False


@pytest.mark.parametrize("name", KEPT)
def test_a_sequence_that_failed_once(name: str, tmp_path: Path) -> None:
    found, log = sequences.faults_of(tmp_path, Random(name))
    assert not found, " · ".join([*found, *log])
