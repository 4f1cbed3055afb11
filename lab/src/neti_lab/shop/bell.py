"""Waiting inside one event loop for something to become true. Must never be used across threads."""

import asyncio
from collections.abc import Callable


class Bell:
    """Rung after every change that somebody may be waiting for."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():
            await self._event.wait()
