"""A lab of its own for every test, gone afterwards whatever the test did."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from tests.support.front import run_in_front

from neti_lab import lifecycle
from neti_lab.state import LabState, open_state

_numbers = itertools.count(1)

Neti = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """What a shell has started in the background ignores Ctrl-C, and all that it starts inherits
    that; here commands are interrupted as at a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def lab() -> Iterator[LabState]:
    """The state of a lab that is not up; its name is no other test run's."""
    _require_root()
    state = open_state(f"t{os.getpid() % 10**8}x{next(_numbers)}")
    lifecycle.take_down(state)
    yield state
    lifecycle.take_down(state)


@pytest.fixture
def lab_command(lab: LabState) -> Callable[..., list[str]]:
    """The command line of ``neti lab COMMAND`` for this lab."""

    def line(command: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "neti", "lab", command, "--name", lab.name, *arguments]

    return line


@pytest.fixture
def neti_lab(lab_command: Callable[..., list[str]]) -> Neti:
    """Runs ``neti lab COMMAND --name LAB ARGUMENTS`` as a user would."""

    def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_in_front(lab_command(command, *arguments), 600)

    return run


def code_as_shells_tell(process: subprocess.Popen[str], seconds: float = 60.0) -> int:
    """The exit code of a command that was interrupted. ``python -m`` ends by SIGINT itself where
    the interrupt came amid an ``exec`` (a dataclass has one), whoever caught it afterwards: that
    too is 130 to a shell."""
    code = process.wait(seconds)
    return code if code >= 0 else 128 - code


def _require_root() -> None:
    reason = None
    if os.geteuid() != 0:
        reason = "network namespaces need root"
    elif missing := [program for program in ("ip", "nft") if shutil.which(program) is None]:
        reason = f"{missing[0]} is not installed"
    if reason is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"cannot run in CI: {reason}")
    pytest.skip(reason)
