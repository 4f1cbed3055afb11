"""The registry as commands about the whole fleet see it: what every agent would believe."""

from neti.admission import Admission
from neti.aws.report import Registered, id_of
from neti.cli.fleet import told_of
from neti.fleet import Fleet
from neti.registry import Registry
from neti.settings import Settings


def read(settings: Settings, registry: Registry) -> Registered:
    """Members by the agents' own judgement; reads, changes nothing."""
    owners = registry.leases()
    admission = Admission(sites=settings.sites, overlay_subnet=settings.overlay_subnet)
    fleet = Fleet(admission, linger_seconds=settings.linger_seconds)
    names = registry.names()
    fleet.snapshot(names, now=0.0)
    for overlay in fleet.questions().leases:
        fleet.lease_read(overlay, owners.get(overlay))
    return Registered(
        members=dict(fleet.members),
        told={detail.host_id: told_of(detail.document) for detail in registry.details()},
        leases={host_id: overlay for overlay, host_id in owners.items()},
        # All of them: of whom is not named it would be said that it has no agent.
        skipped=fleet.skipped(max(len(names), 1)),
        present=frozenset(id_of(name) for name in names),
    )
