"""That something is gone is believed the second time: one odd answer must not take it away. Pure.

The metadata service says 404 for a public address that there is none, and now and then for one that
there is. Whoever registers without it is cut off from the other site at once.
"""

from neti.model import Host, IPAddress


def lost_addresses(before: Host, now: Host) -> frozenset[IPAddress]:
    """Addresses that the same host had, and that nothing took the place of."""
    if before.id != now.id:
        return frozenset()
    gone = set(before.more) - {*now.more, now.private, now.public}
    if before.public is not None and now.public is None:
        gone.add(before.public)
    return frozenset(gone)
