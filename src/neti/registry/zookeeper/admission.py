"""Who may begin a host: the right to create below ``hosts``, and the records that operators make.

Must never do: take a record away from the certificate that it belongs to, unless that was asked
for by name.
"""

from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.layout import Layout


def has_rights(attempt: Attempt, layout: Layout) -> bool:
    """Whether a record can be written by its own host only: the tree has rights, and records."""
    (of_hosts,) = attempt.acls([layout.hosts])
    return bool(of_hosts) and not rights.harmful(of_hosts)
