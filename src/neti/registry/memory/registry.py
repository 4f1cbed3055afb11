"""One session with a registry in this process's memory: the same contract as the real ones.

Must never do: anything of its own.
"""

from neti.registry.memory.agent import AgentSide
from neti.registry.memory.operator import OperatorSide


class MemoryRegistry(AgentSide, OperatorSide):
    """One session with a ``MemoryServer``. See ``neti.registry.Registry``."""
