"""What members say of themselves, as far as it is theirs.

Must never do: believe what somebody else made.
"""

from collections.abc import Mapping

from neti.registry import OperatorRegistry, detail
from neti.registry.detail import Document


def told_by(
    registry: OperatorRegistry, entries: Mapping[str, str | None]
) -> tuple[dict[str, Document], frozenset[str]]:
    """What these members say of themselves, and of whom somebody else says something: a document
    that does not go with the session of the host's entry. Anybody may make one of a host that is
    away, and after that its own agent cannot. ``entries``: theirs, by id. Nothing else is read, so
    a look at few of them costs little."""
    details = registry.details(entries)
    names = (entries[one.host_id] for one in details)
    sessions = registry.sessions(name for name in names if name is not None)
    own, others = dict[str, Document](), set[str]()
    for one in details:
        session = sessions.get(entries[one.host_id] or "")
        if session is None or session == one.session:  # None: it is gone meanwhile
            own[one.host_id] = detail.decode(one.document)
        else:
            others.add(one.host_id)
    return own, frozenset(others)
