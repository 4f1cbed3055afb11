"""``neti lease gc``: asks the registry who is there, and releases what was judged.

Must never do: judge. That is ``neti.aws.terminated``.
"""

from collections.abc import Sequence

from neti.aws.terminated import Lease
from neti.errors import EntryError, NetiError
from neti.host import caller
from neti.model import entry
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
    registry: OperatorRegistry, leases: Sequence[Lease]
) -> tuple[list[Lease], list[tuple[Lease, NetiError]]]:
    """One by one. The registry refuses those that are registered by now."""
    done, refused = [], []
    for lease in leases:
        try:
            released = registry.release(lease.host_id)
        except NetiError as error:
            refused.append((lease, error))
        else:
            done.append(lease)
            if released is not None:  # one by one, as this may be interrupted
                caller.note("lease gc", id=lease.host_id, overlay=released)
    return done, refused
