"""Says which seeds the drills ran with, also when all is well: chance has to be repeatable."""

import pytest

SEEDS = pytest.StashKey[dict[str, int]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SEEDS] = {}


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for name, seed in config.stash.get(SEEDS, {}).items():
        terminalreporter.write_line(f"drill {name}: python -m drills --short --seed {seed} {name}")
