"""``neti lease gc``: asks the registry who is there, and releases what was judged.

Must never do: judge. That is ``neti.aws.terminated``.
"""

from collections.abc import Sequence

from neti.aws.terminated import Lease
from neti.errors import EntryError, NetiError
from neti.host import caller
from neti.model import entry
from neti.model.settings import Settings
from neti.oneshot.grouping import heirs
from neti.registry import OperatorRegistry


def present(registry: OperatorRegistry) -> frozenset[str]:
    """Everybody with an entry, believed or not."""
    present = set()
    for name in registry.names():
        try:
            present.add(entry.parse(name).id)
        except EntryError:
            continue
    return frozenset(present)


def release(
    settings: Settings, registry: OperatorRegistry, leases: Sequence[Lease], now: float
) -> tuple[list[Lease], list[tuple[Lease, NetiError]]]:
    """One by one. The registry refuses those that are registered by now; and no id is given up that
    stands in a group and would be anybody's. ``now``: Unix seconds."""
    done, refused = [], []
    named = heirs(settings, registry, [lease.host_id for lease in leases], now)
    for lease in leases:
        if (kept := named.refusal(lease.host_id)) is not None:
            refused.append((lease, kept))
            continue
        try:
            released = registry.release(lease.host_id)
        except NetiError as error:
            refused.append((lease, error))
        else:
            done.append(lease)
            if released is not None:  # one by one, as this may be interrupted
                caller.note("lease gc", id=lease.host_id, overlay=released)
    return done, refused
