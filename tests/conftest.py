"""What holds for every test of the tree, and how a run of many is arranged."""

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import settings
from tests.support import coverage_floors, run_end
from tests.support.drill_player import DrillPlayer

from neti.model import problems

# Before anything of Neti reads it: sockets of agents that a test kills do not lie in /run/neti.
RUN: Final = tempfile.mkdtemp(prefix="neti-run-")
os.environ["NETI_RUN"] = RUN

problems.strict = True  # a code that nobody declared is an error, not a warning

# An environment that forbids byte code makes each of some thousand processes compile Neti anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def _in_memory() -> None:
    """Temporary files go where no fsync waits for a disk: an agent writes its state with many. No
    test is about the disk itself; whoever sets TMPDIR decides."""
    memory = "/dev/shm"
    with contextlib.suppress(OSError):
        found = os.statvfs(memory)
        room = found.f_bavail * found.f_frsize >= 4 << 30
        if room and not found.f_flag & (os.ST_NOEXEC | os.ST_RDONLY | os.ST_NODEV):
            os.environ.setdefault("TMPDIR", memory)
            tempfile.tempdir = None


_in_memory()

# A busy machine makes any example slow, so no example is judged by the time that it took. A failing
# one is printed with the line that repeats it.
settings.register_profile("neti", deadline=None, print_blob=True)
# make check asks for it by --hypothesis-profile. tests/support/examples.py
settings.register_profile("quick", settings.get_profile("neti"), max_examples=30)
settings.load_profile("neti")

HERE: Final = Path(__file__).parent
# Workers take from both ends of this list. What waits, for processes, servers and time-outs, is
# taken from the front, by few workers. One of them has all labs: two labs at once would be slow
# enough to time out. The others begin at the end with what only computes, and so fill what the
# first leave of the processors. Where only labs are left, all but one end. The drills play beside
# the rest once the longest lab is over, one at a time, and their own tests come last.
ORDER: Final = (
    *("lab", "deploy", "kernel", "zookeeper", "bench", "browser", "aws", "contract"),
    *("docs", "unit", "simulation", "drills"),
)
LONGEST: Final = "test_migrate.py"
AT_THE_FRONT: Final = 2  # at most, and one fewer than there are, but one at least
COMPUTING: Final = {"simulation", "docs", "unit"}
# Each of these tests may go to another worker. Of the others a file stays together, because its
# fixtures would be made again by each worker.
APART: Final = {
    *("lab", "deploy", "kernel", "zookeeper", "bench", "browser", "simulation", "drills"),
}
_DRILLS: Final = pytest.StashKey[list[str]]()  # those of this run
_DRILL: Final = re.compile(r"/test_drills\.py::test_drill\[(\w+)\]")


def _part(item: pytest.Item) -> str:
    return item.path.relative_to(HERE).parts[0]


def _rank(item: pytest.Item) -> int:
    part = _part(item)
    if item.path.name == LONGEST:
        return -1
    return ORDER.index(part) if part in ORDER else len(ORDER)


def _is_worker() -> bool:
    return "PYTEST_XDIST_WORKER" in os.environ


@pytest.hookimpl(trylast=True)  # when those that were not asked for are gone
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=_rank)
    config.stash[_DRILLS] = [item.nodeid for item in items if _part(item) == "drills"]


# --- several workers ---


def _folder(nodeid: str) -> str:
    return nodeid.split("/")[1]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if _folder(nodeid) in APART else nodeid.partition("::")[0]

        def _assign_work_unit(self, node: Any) -> None:
            units = list(self.workqueue)
            if not any(LONGEST in unit for unit in [*units, *self._pending()]):
                _begin_drills(self.config, units)
            if others := [unit for unit in units if _folder(unit) != "drills"]:
                at_the_front = self._is_at_the_front(node)
                if not at_the_front or self._plays_labs_elsewhere(node):
                    others = [unit for unit in others if _folder(unit) != "lab"]
                if not others:
                    node.shutdown()  # two labs at once would be slow enough to time out
                    return
                self.workqueue.move_to_end(others[0 if at_the_front else -1], last=False)
            super()._assign_work_unit(node)

        def _pending(self, *, beside: Any = None) -> list[str]:
            """What was handed out and is not at its end, not counting what this one has."""
            return [
                unit
                for node, units in self.assigned_work.items()
                for unit, done in units.items()
                if node is not beside and not all(done.values())
            ]

        def _plays_labs_elsewhere(self, node: Any) -> bool:
            return any(_folder(unit) == "lab" for unit in self._pending(beside=node))

        def _is_at_the_front(self, node: Any) -> bool:
            """Of those that live: whoever follows one that died may have to take its place."""
            lives = [one for one in self.nodes if not one.shutting_down]
            lives.sort(key=lambda one: int(one.gateway.id.removeprefix("gw")))
            return node in lives[: max(1, min(AT_THE_FRONT, self.numnodes - 1))]

    config.option.loadscopereorder = False
    return Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What only computes goes behind what somebody waits for. Without workers the drills begin
    with the first test that only computes, when no lab and no kernel test runs."""
    computes, drills = _part(item) in COMPUTING, item.config.stash[_DRILLS]
    if not _is_worker() and (computes or _part(item) == "drills"):
        _begin_drills(item.config, drills)  # before the next lines, which they must not inherit
    if _is_worker() or drills:
        with contextlib.suppress(PermissionError):  # only root may go to the front again
            os.setpriority(os.PRIO_PROCESS, 0, 10 if computes else 0)


# --- drills ---

_PLAYER: Final = pytest.StashKey[DrillPlayer]()


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        workers = config.getoption("numprocesses", None)
        config.stash[_PLAYER] = DrillPlayer(at_once=1 if workers else 2)


def _begin_drills(config: pytest.Config, ids: Iterable[str]) -> None:
    if _PLAYER in config.stash:
        found = (_DRILL.search(one) for one in ids)
        config.stash[_PLAYER].begin([one[1] for one in found if one is not None])


def pytest_unconfigure(config: pytest.Config) -> None:
    if _PLAYER in config.stash:
        config.stash[_PLAYER].end()
    run_end.come()
    shutil.rmtree(RUN, ignore_errors=True)


# --- the end ---


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Before the summary, which counts a room below its floor as an error."""
    coverage_floors.judge(session)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How to repeat what chance decided, also when all is well."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for key, value in getattr(report, "user_properties", ()):
                if key == "repeat" and report.when == "call":
                    terminalreporter.write_line(f"to repeat: {value}")
    for line in coverage_floors.lines(terminalreporter.config):
        terminalreporter.write_line(line)
