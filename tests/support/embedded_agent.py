"""An agent on the embedded registry as a process of its own, for tests to stop and kill.

python -m tests.support.embedded_agent PATH ID SESSION-SECONDS (watch | churn)

It prints one line for each event, and registers again whenever it is Fresh; ``churn`` changes its
address as often as it can.
"""

import queue
import sys
import time
from pathlib import Path

from neti.registry import Appeared, Event, Fresh, Snapshot, Vanished
from neti.registry.embedded.registry import EmbeddedRegistry


def name_of(host_id: str, number: int) -> str:
    return f"1.{number:024x}.0.ec2.{host_id}"


def main() -> None:
    path, host_id, seconds, mode = sys.argv[1:]
    registry = EmbeddedRegistry(Path(path), session_seconds=float(seconds))
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    registry.watch(events.put)
    number = 0
    while True:
        event = events.get() if mode == "watch" or not number else None
        if event is not None:
            names = ""
            if isinstance(event, Snapshot):
                names = " ".join(sorted(event.names))
            elif isinstance(event, Appeared | Vanished):
                names = event.name
            print(time.monotonic(), type(event).__name__, names, flush=True)
        if isinstance(event, Fresh) or (number and mode == "churn"):
            previous = name_of(host_id, number) if number else None
            number += 1 if mode == "churn" or not number else 0
            registry.register(
                host_id=host_id,
                name=name_of(host_id, number),
                data=b"",
                detail=b"{}",
                replaces=previous if mode == "churn" else None,
            )


if __name__ == "__main__":
    main()
