"""How many connections the page's server has at once, and for how long without a request.

Whoever can reach the port can open connections, with or without the token. Must never do: let them
take what the others need.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST: Final = 200
BACKLOG: Final = 64  # that wait for the kernel to hand them over
_FIRST_REQUEST: Final = 10.0  # seconds


class Connection(H11Protocol):
    """uvicorn's own, and no more of them than ``MOST``."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > MOST:
            transport.abort()
            return
        self._late = self.loop.call_later(_FIRST_REQUEST, self._has_asked)

    def _has_asked(self) -> None:
        if self.cycle is None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        late: asyncio.TimerHandle | None = getattr(self, "_late", None)
        if late is not None:
            late.cancel()
        super().connection_lost(exc)
