"""What a command costs where an agent answers: CPU of the whole process, ``python -m neti``.

By the file that the agent has in force, and by one that was edited since, which the command has to
parse and judge. The agent is a socket that tells a status: what a real one costs is not in it.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import neti
from benchmarks.figures import Line, Report, Times
from benchmarks.scale import Scale, say
from neti.control.server import ControlServer
from neti.monitoring.status import Registry, Status
from neti.state.location import GOOD_CONFIG

NAME: Final = "commands"
TITLE: Final = "What a command costs"
_COMMANDS: Final = ("status", "overlay-ip", "check")
_CONFIG: Final = """\
registry: embedded:{folder}/registry.db
table_files_path: {folder}/state
site: ec2
identity: {{id: a, private: 10.0.0.5}}
"""


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    lines: list[Line] = []
    rounds = 2 * scale.starts
    with _agent() as config:
        in_force = config.read_text()
        for command in _COMMANDS:
            say(f"commands: neti {command}")
            same, edited = Times(), Times()
            for _ in range(rounds):  # in turn, so that both meet the same machine
                config.write_text(in_force)
                same.each.append(_cpu(command, config))
                config.write_text(f"{in_force}# edited\n")
                edited.each.append(_cpu(command, config))
            lines.append(Line(f"neti {command}: CPU", same, edited))
    report.compare(lines, ours="in force", other="edited since")
    return report


def _cpu(command: str, config: Path) -> float:
    """Seconds, of the kernel's too."""
    quiet = subprocess.DEVNULL
    line = [sys.executable, "-m", "neti", command, "-c", str(config)]
    process = subprocess.Popen(line, stdout=quiet, stderr=quiet)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime


@contextmanager
def _agent() -> Iterator[Path]:
    """One that answers; the configuration that it has in force."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, state = folder / "neti.yml", folder / "state"
        config.write_text(_CONFIG.format(folder=folder))
        state.mkdir(mode=0o700)
        (state / GOOD_CONFIG).write_bytes(config.read_bytes())
        told = Status(
            version=neti.__version__,
            id="a",
            site="ec2",
            private="10.0.0.5",
            overlay="192.168.0.7",
            registered=True,
            registry=Registry(fresh=True),
        ).document()
        server = ControlServer(state, lambda request: request.succeed(told))
        server.start()
        server.open()
        try:
            yield config
        finally:
            server.close()
