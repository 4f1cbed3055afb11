"""Whether a group names an id whose record goes, so that whoever takes the id is in the group.

Must never do: take groups that cannot be read for none: agents may follow the last that could.
"""

import time
from collections.abc import Callable

from neti.registry.groups import GroupsUnreadable, decode
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.layout import Layout
from neti.words import some


def groups_naming(attempt: Attempt, layout: Layout) -> Callable[[str], str | None]:
    """By id, why its record stays; None: for this it may go. Reads once, not once for each id."""
    (held,), (of_hosts,) = attempt.nodes([layout.setting("groups")]), attempt.acls([layout.hosts])
    anybodys = rights.world(of_hosts) & rights.CREATE and not rights.harmful(of_hosts)
    if held is None or not anybodys:
        return lambda _: None
    try:
        groups, now = decode(held[0]), time.time()
    except GroupsUnreadable as error:
        unread = f"whether whoever registers under that id then is in a group is not known: {error}"
        return lambda _: unread

    def naming(host_id: str) -> str | None:
        named = groups.naming(host_id, now)
        return f"whoever registers under that id then is in {some(named)}" if named else None

    return naming
