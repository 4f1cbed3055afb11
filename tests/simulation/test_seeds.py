"""A share of seeds, other ones each day: what they find is to be kept as a test."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEEDS, STEPS = 200, 40  # the first of the 1,000 that make drills plays


def test_todays_seeds_end_well() -> None:
    """In a process of its own, where the order of a set is the same each time."""
    first = int(datetime.now(UTC).strftime("%Y%m%d")) * 1000
    asked = ["--seeds", str(SEEDS), "--first", str(first), "--steps", str(STEPS), "--largest", "6"]
    ran = subprocess.run(
        [sys.executable, "-m", "simulation", *asked],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, f"python -m simulation {' '.join(asked)}\n{ran.stdout}{ran.stderr}"
