"""What all programs of the shop have in common: how they start, follow their file, and end.

A configuration that is half written or wrong must never end a program or change what it does: the
last good one stays, and one line says so. Must never end with requests in flight unless two
seconds were not enough for them.
"""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from neti import log
from neti_lab import LabError
from neti_lab.shop.configuration import Configuration, Document

C = TypeVar("C", bound=Configuration)
C_contra = TypeVar("C_contra", bound=Configuration, contravariant=True)

REPORT_SECONDS: Final = 0.2
_POLL_SECONDS: Final = 0.05

_Stamp = tuple[int, int, int]


class Program(Protocol[C_contra]):
    """One role. All of it runs in one event loop."""

    async def start(self) -> None:
        """Begin to serve or to ask. OSError or LabError when that cannot be."""

    def take(self, configuration: C_contra) -> None:
        """Go by this configuration from now on; host, port and paths are those of the start."""

    def report(self) -> None:
        """Write the statistics; called every 200 ms and at the very end."""

    async def stop(self) -> None:
        """Finish what has begun, begin nothing new."""


class ConfigurationFile(Generic[C]):
    """A file that is looked at again and again."""

    def __init__(self, path: Path, parse: Callable[[object], C]) -> None:
        self._path = path
        self._parse = parse
        self._seen: _Stamp | None = None
        self._complained: str | None = None

    def load(self) -> C:
        """What is in it now. LabError when that is no good."""
        try:
            # The stamp first: what is written after it makes another one.
            stamp = self._stamp()
            configuration = self._parse(json.loads(self._path.read_bytes()))
        except (OSError, ValueError, LabError) as error:
            raise LabError(f"{self._path}: {error}") from error
        self._seen = stamp
        self._complained = None
        return configuration

    def changed(self) -> C | None:
        """What is in it, if that is new and good."""
        with contextlib.suppress(OSError):
            if self._stamp() == self._seen:
                return None
        try:
            return self.load()
        except LabError as error:
            # Not marked as seen: the rest may follow within one tick of the file's clock.
            if str(error) != self._complained:
                self._complained = str(error)
                log.warning("shop-configuration-refused", error=error, kept="the last good one")
            return None

    def _stamp(self) -> _Stamp:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_ino, status.st_size


def run(path: Path, parse: Callable[[object], C], make: Callable[[C], Program[C]]) -> None:
    """The whole life of a program. LabError when it cannot start."""
    file = ConfigurationFile(path, parse)
    configuration = file.load()
    asyncio.run(_live(configuration, make, file))


def write_document(path: Path, document: Document) -> None:
    """Readers see the old document or the new one, never half of it."""
    scratch = path.with_name(path.name + ".new")
    scratch.write_text(json.dumps(document) + "\n")
    scratch.replace(path)


async def _live(
    configuration: C, make: Callable[[C], Program[C]], file: ConfigurationFile[C]
) -> None:
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    try:
        program = make(configuration)
        await program.start()
        program.report()
    except OSError as error:
        raise LabError(str(error)) from error
    log.info("shop-started", pid=os.getpid())
    due = time.monotonic() + REPORT_SECONDS
    while not ending.is_set():
        if (changed := file.changed()) is not None:
            program.take(changed)
            log.info("shop-configuration-taken")
        if time.monotonic() >= due:
            _report(program)
            due = time.monotonic() + REPORT_SECONDS
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ending.wait(), _POLL_SECONDS)
    log.info("shop-ending")
    await program.stop()
    _report(program)
    log.info("shop-ended")


def _report(program: Program[C]) -> None:
    try:
        program.report()
    except OSError as error:
        # Whoever reads the figures sees by their age that they are old; the traffic goes on.
        log.warning("shop-report-failed", error=error)
