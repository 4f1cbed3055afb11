"""A stream of datagrams that are numbered, so that each one that is lost is seen."""

import contextlib
import time
from threading import Thread

from tests.support.netns import PATIENCE, WAIT, Net
from tests.support.talking import Echo, caller, wait_until


class Numbered:
    """A datagram each two milliseconds, each echoed; which ones were lost."""

    def __init__(
        self, sender: tuple[Net, str], echoing: tuple[Net, str], overlay: str, port: int
    ) -> None:
        """From one namespace to this overlay address in the other one."""
        self.echo = Echo(*echoing, port)
        self._sock, self._to = caller(*sender), (overlay, port)
        self._sock.settimeout(WAIT)
        self.sent, self._ended, self._until = 0, False, 0.0
        self.back: set[bytes] = set()
        self._threads = [Thread(target=self._send), Thread(target=self._take)]
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.back) > 20)  # a session is there

    def _send(self) -> None:
        while not self._ended:
            # One that this machine does not even send is lost as well.
            with contextlib.suppress(OSError):
                self._sock.sendto(b"%d" % self.sent, self._to)
            self.sent += 1
            time.sleep(0.002)

    def _take(self) -> None:
        while True:
            try:
                self.back.add(self._sock.recv(99))
            except TimeoutError:
                if self._ended and (len(self.back) == self.sent or time.monotonic() > self._until):
                    return

    def lost(self) -> tuple[int, int]:
        """There and back, after the end."""
        self.end(PATIENCE / 5)
        arrived = {data for _, data in self.echo.callers}
        return self.sent - len(arrived), self.sent - len(self.back)

    def end(self, patience: float = 0.0) -> None:
        """``patience``: seconds that what is still out may take."""
        self._until = time.monotonic() + patience
        self._ended = True
        for thread in self._threads:
            thread.join()
        self._sock.close()
        self.echo.socket.close()
