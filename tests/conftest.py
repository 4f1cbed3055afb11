"""What holds for every test of the tree."""

import os
import sys
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

from neti.model import problems

problems.strict = True  # a code that nobody declared is an error, not a warning

# An environment that forbids byte code makes each of some thousand processes compile Neti anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A busy machine makes any example slow, so no example is judged by the time that it took. A failing
# one is printed with the line that repeats it.
settings.register_profile("neti", deadline=None, print_blob=True)
settings.load_profile("neti")

HERE: Final = Path(__file__).parent
# With several workers the files that wait longest begin first, so that none of them is last.
LONGEST_FIRST: Final = ("drills", "lab", "deploy", "kernel", "zookeeper", "aws", "bench")


def _rank(item: pytest.Item) -> int:
    part = item.path.relative_to(HERE).parts[0]
    return LONGEST_FIRST.index(part) if part in LONGEST_FIRST else len(LONGEST_FIRST)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_rank)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How to repeat what chance decided, also when all is well."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for key, value in getattr(report, "user_properties", ()):
                if key == "repeat" and report.when == "call":
                    terminalreporter.write_line(f"to repeat: {value}")
