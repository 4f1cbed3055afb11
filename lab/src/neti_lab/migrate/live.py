"""The live line of a migration: how its users fare, four times a second. A terminal's only."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from neti_lab.migrate.company import Company

_EVERY_SECONDS: Final = 0.25


@contextmanager
def watching(company: Company, title: str, show: Callable[[str], None]) -> Iterator[None]:
    """Show ``title`` with the figures of this moment until the block ends."""
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(_EVERY_SECONDS):
            show(f"{title}   {line(company)}")

    thread = threading.Thread(target=follow, name="live", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def line(company: Company) -> str:
    """Requests, failures, latency and the scanner's luck, as far as there are figures."""
    users, scanner = company.statistics("users"), company.statistics("scanner")
    if not users:
        return ""
    now = time.monotonic()
    recent = [one for one in users["recent"] if now - one[0] < 2]
    slow = sorted(one[1] for one in recent)
    latency = f"p99 {slow[int(0.99 * (len(slow) - 1))]:.0f} ms" if slow else "no answers"
    parts = [
        f"{len(recent) / 2:.0f} requests/s",
        f"{users['requests']:,} in all",
        f"{users['failures']} failed",
        latency,
    ]
    if scanner:
        parts.append(f"scanner: {scanner['hit_count']} hits in {scanner['tries']:,} tries")
    return " · ".join(parts)
