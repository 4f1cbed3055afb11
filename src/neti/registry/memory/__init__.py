"""A registry in this process's memory, for tests: the same contract, and not a thread of its own.

Events are delivered in the thread that caused them, before its call returns, so that a test reads
from top to bottom. Sessions end only when the test says so (``MemoryServer.expire``).
"""

from neti.registry.memory.registry import MemoryRegistry
from neti.registry.memory.server import Copy, MemoryServer

__all__ = ["Copy", "MemoryRegistry", "MemoryServer"]
