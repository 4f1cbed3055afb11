"""Branch coverage of each room of ``src/neti``, as ``make coverage`` prints it, and its floor.

Counted is what tests run in their own process: an agent or a command that they start is a process
of its own, and is not. A floor is what was covered when it was last set. Whoever covers more raises
it; whoever covers less adds a test.

Must never do: judge a run that was not asked to measure (``--cov``), or one of fewer tests.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

ROOMS: Final = Path(__file__).parents[2] / "src/neti"
# Percent of statements and branches: a point less than measured, because what Hypothesis tries
# varies.
FLOORS: Final = {
    "agent": 88,
    "aws": 95,
    "cli": 78,
    "config": 97,
    "control": 91,
    "dataplane": 78,
    "fleet": 97,
    "host": 92,
    "identity": 95,
    "model": 98,
    "monitoring": 97,
    "oneshot": 70,
    "proxy": 88,
    "registry": 76,
    "ruleset": 98,
    "stage": 97,
    "state": 93,
    "the floor": 96,
}
WHOLE: Final = {"tests/unit", "tests/docs", "tests/contract", "tests/aws"}  # as make coverage
FLOOR_ROOM: Final = "the floor"  # errors, clock, log, text and the like

_MEASURED: Final = pytest.StashKey[dict[str, float]]()


def judge(session: pytest.Session) -> None:
    """A room below its floor becomes an error of the run."""
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if not config.pluginmanager.has_plugin("_cov") or reporter is None or session.shouldstop:
        return
    if hasattr(config, "workerinput") or not session.testscollected:
        return
    measured = config.stash[_MEASURED] = _measured(Path(config.rootpath))
    for room, percent in measured.items():
        if percent < FLOORS.get(room, 0) and set(config.args) >= WHOLE:
            said = f"branch coverage is {percent:.1f} %, and its floor is {FLOORS[room]} %"
            report = pytest.CollectReport(f"src/neti/{room}", "failed", said, None)
            reporter.stats.setdefault("error", []).append(report)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def lines(config: pytest.Config) -> list[str]:
    """A few lines for the summary; none when nothing was measured."""
    measured = config.stash.get(_MEASURED, {})
    if not measured:
        return []
    told = [f"{room} {part:.1f} ({FLOORS.get(room, 0)})" for room, part in measured.items()]
    rows = [" · ".join(told[at : at + 6]) for at in range(0, len(told), 6)]
    return ["branch coverage by room in percent (floor):", *(f"  {row}" for row in rows)]


def _measured(root: Path) -> dict[str, float]:
    from coverage import Coverage
    from coverage.exceptions import CoverageException

    coverage = Coverage(data_file=str(root / ".coverage"), config_file=str(root / "pyproject.toml"))
    report = root / ".coverage.json"
    try:
        coverage.load()
        coverage.json_report(outfile=str(report))
        document = json.loads(report.read_text())
    except CoverageException:
        return {}
    finally:
        report.unlink(missing_ok=True)
    there: Counter[str] = Counter()
    covered: Counter[str] = Counter()
    for file, found in document["files"].items():
        first, *deeper = (root / file).relative_to(ROOMS).parts
        room = first if deeper else FLOOR_ROOM
        figures = found["summary"]
        there[room] += figures["num_statements"] + figures["num_branches"]
        covered[room] += figures["covered_lines"] + figures["covered_branches"]
    return {room: 100 * covered[room] / there[room] for room in sorted(there) if there[room]}
