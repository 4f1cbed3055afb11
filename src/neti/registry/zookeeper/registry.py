"""A registry in ZooKeeper, for real fleets. See ``layout`` for what stands where.

The calls are in ``agent`` and ``operator``; ``session`` is what they share, ``stream`` watches,
``calls`` asks, ``watch`` is what is missing in kazoo.

Must never do: anything of its own.
"""

from neti.registry.zookeeper.agent import AgentSide
from neti.registry.zookeeper.operator import OperatorSide


class ZooKeeperRegistry(AgentSide, OperatorSide):
    """One session with ZooKeeper, begun by the first call. See ``neti.registry.Registry``.

    An operator's command simply does not ``watch``: it reads, and closes.
    """
