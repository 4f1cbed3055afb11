"""``python -m benchmarks.measured_agent …`` is ``neti …`` with one thing otherwise, or counted.

In the environment: ``NETI_BENCH_PROOF=off``: no host's record is read, as without TLS; or
``strict``, also without TLS;
``NETI_BENCH_QUESTIONS=FOLDER``: a file there by its process id, with a line for each time that it
asks the registry: when, and about how many leases, entries and records.

Must never do: change anything else of an agent.
"""

import os
import time
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

PROOF: Final = "NETI_BENCH_PROOF"
QUESTIONS: Final = "NETI_BENCH_QUESTIONS"


def _decide(mode: str) -> None:
    """Before anybody else imports what decides it."""
    from neti.fleet import vouching

    def decided(*, tls: bool, strict: bool) -> vouching.Mode:
        return "strict" if mode == "strict" else "off"

    vouching.mode_of = decided


def _count(into: Path) -> None:
    from neti.registry import Question
    from neti.registry.record import HostId
    from neti.registry.zookeeper.questions import Questions

    ask = Questions.ask

    def counted(self: Questions, subjects: Iterable[Question]) -> None:
        every = list(subjects)
        leases = sum(isinstance(one, IPv4Address) for one in every)
        hosts = sum(isinstance(one, HostId) for one in every)
        with (into / str(os.getpid())).open("a") as file:
            file.write(f"{time.monotonic()} {leases} {len(every) - leases - hosts} {hosts}\n")
        ask(self, every)

    Questions.ask = counted  # type: ignore[method-assign]  # counted here


if __name__ == "__main__":
    if PROOF in os.environ:
        _decide(os.environ[PROOF])
    if QUESTIONS in os.environ:
        _count(Path(os.environ[QUESTIONS]))
    from neti.__main__ import main

    main()
