"""A registry in a file, for many agents on one machine: SQLite in WAL mode.

The calls are in ``agent`` and ``operator``; ``calls`` is what they share, ``watch`` is the thread,
``files`` what is on disk.

Must never do: leave a state behind, at whatever instruction it is killed, that others stumble over.
"""

from neti.registry.embedded.agent import AgentSide
from neti.registry.embedded.operator import OperatorSide


class EmbeddedRegistry(AgentSide, OperatorSide):
    """One session with the registry in the file ``path``. See ``neti.registry.Registry``.

    Without ``watch`` nothing renews the session: it lives for its time-out after the last call.
    """
