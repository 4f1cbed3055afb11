"""When each of many namespaces' kernels had an overlay address: one thread that listens to all.

The thread comes before everybody else who wants a processor, so that what it reads is as old as its
own work and not as others' turns. It only notes what came, and when; somebody else takes it apart.
"""

import contextlib
import os
import queue
import selectors
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address
from typing import Final, Self

from benchmarks.kernel import KernelEvents, NotInTime, overlay_events
from neti_lab import namespaces

_LOOK_SECONDS: Final = 0.25  # how often whoever waits takes apart what came


class Kernels:
    """As a context manager it listens, from the first moment to the last."""

    def __init__(self, names: Iterable[str]) -> None:
        self._events: dict[str, KernelEvents] = {}
        self._came: queue.SimpleQueue[tuple[float, str, bytes]] = queue.SimpleQueue()
        self._watched = b""
        self._silent: set[str] = set()  # that have said nothing yet of what is watched
        self._all = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        try:
            for name in names:
                self._events[name] = namespaces.call_inside(name, KernelEvents)
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._close()

    def cpu(self) -> float:
        """What listening has taken so far."""
        assert self._thread.ident is not None
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident))

    def wait_for_all(
        self, overlays: set[IPv4Address], *, seconds: float, alive: Callable[[], None]
    ) -> float:
        """When (time.perf_counter) the last kernel had the last of them; ``alive`` may raise."""
        wanted = {overlay.packed for overlay in overlays}
        missing = {name: set(wanted) for name in self._events}
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            time.sleep(_LOOK_SECONDS)
            alive()
            for when, name, key in self._added():
                if (still := missing.get(name)) is None:
                    continue
                still.discard(key)
                if not still:
                    del missing[name]
                if not missing:
                    return when
        raise NotInTime(f"{len(missing)} kernels do not have all members after {seconds:.0f} s")

    def watch(self, overlay: IPv4Address) -> None:
        """From now on; what came before is forgotten."""
        self._all.clear()
        self._silent = set(self._events)
        self._watched = overlay.packed
        for _ in self._noted():
            pass

    def seen(self, *, seconds: float) -> dict[str, float]:
        """When (time.perf_counter) each had what is watched."""
        self._all.wait(seconds)
        times: dict[str, float] = {}
        for when, name, key in self._added():
            if key == self._watched:
                times.setdefault(name, when)
        if len(times) < len(self._events):
            late = len(self._events) - len(times)
            raise NotInTime(f"{late} kernels do not have the member after {seconds:.0f} s")
        return times

    def _added(self) -> Iterator[tuple[float, str, bytes]]:
        for when, name, datagram in self._noted():
            for kind, key in overlay_events(datagram):
                if kind == "added":
                    yield when, name, key

    def _noted(self) -> Iterator[tuple[float, str, bytes]]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._came.get_nowait()

    def _listen(self) -> None:
        # Not everywhere may root ask for that; then it waits for its turn like all others.
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        with selectors.DefaultSelector() as selector:
            for name, events in self._events.items():
                selector.register(events, selectors.EVENT_READ, name)
            while not self._over.is_set():
                for key, _ in selector.select(_LOOK_SECONDS):
                    self._note(key.data)

    def _note(self, name: str) -> None:
        datagram = self._events[name].read()
        self._came.put((time.perf_counter(), name, datagram))
        if self._watched and self._watched in datagram:
            self._silent.discard(name)
            if not self._silent:
                self._all.set()

    def _close(self) -> None:
        for events in self._events.values():
            events.close()
