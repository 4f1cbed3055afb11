"""All that is Neti's out of this kernel, and nothing else: what ``neti down`` does.

Works with an agent and without one. Each step may be repeated.
"""

from neti.agent.conntrack import Tracking
from neti.agent.core import Connections
from neti.dataplane.reconciler import Reconciler
from neti.host.machine import Machine
from neti.model.settings import Settings


def take_out(
    settings: Settings,
    reconciler: Reconciler,
    machine: Machine,
    connections: Connections,
    tracking: Tracking,
) -> None:
    """Raises DataplaneError."""
    reconciler.remove()
    machine.remove_overlay_route(settings.overlay_subnet)
    # The kernel would go on translating what it tracks without any rule.
    connections.end_stale(settings.overlay_subnet, lambda _: None)
    outside = [a for a in settings.nat_overrides if a not in settings.overlay_subnet]
    if outside:
        connections.end_connections_to(outside)
    tracking.put_back()
