"""Python's collector of reference cycles stands still while thousands of members come in.

It looks at all objects again and again as their number grows, a seventh of the processor time of a
start with 16,000 members, and finds nothing: what a list and its answers make stays.

Must never do: let it stand still for longer than a list takes to be read.
"""

import gc
from typing import Final, Protocol

MANY: Final = 1000  # names in a list


class Collector(Protocol):
    def pause(self) -> None: ...

    def go_on(self) -> None: ...


class NoCollector:
    """For tests: many agents are one process there."""

    def pause(self) -> None: ...

    def go_on(self) -> None: ...


class PythonsCollector:
    """This process's."""

    def pause(self) -> None:
        gc.disable()

    def go_on(self) -> None:
        gc.enable()
