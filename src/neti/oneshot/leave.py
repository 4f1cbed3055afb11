"""``neti leave`` without an agent: by the session that it left behind, while that lasts.

Must never do: release the lease, which waits for this host's return.
"""

import enum

from neti.host import caller
from neti.identity.machine import fingerprint
from neti.model import Member, entry
from neti.model.settings import Settings
from neti.oneshot.down import name_nobody
from neti.registry.opening import open_registry
from neti.state.folder import StateFolder
from neti.state.loaded import Loaded


class Outcome(enum.Enum):
    LEFT = enum.auto()
    HAD_LEFT = enum.auto()  # and forgot its session then
    NO_SESSION = enum.auto()  # nothing here says by which session this host is registered


def has_left(held: Loaded) -> bool:
    """Whoever leaves forgets its session, and nothing else that was ever its own."""
    return held.session is None and held.itself.entry is not None and not held.faults


def leave_alone(settings: Settings) -> Outcome:
    """Raises RegistryError."""
    folder = StateFolder(settings.table_files_path, make=False)
    held = folder.load(fingerprint())
    if held.session is None or held.itself.entry is None:
        return Outcome.HAD_LEFT if has_left(held) else Outcome.NO_SESSION
    member = entry.parse(held.itself.entry)
    assert isinstance(member, Member)
    registry = open_registry(settings, member.site, held.session, make=False)
    try:
        registry.leave(
            host_id=member.id,
            name=held.itself.entry,
            departure=entry.encode_departure(member),
        )
    finally:
        registry.detach()
    folder.forget_session()
    name_nobody(folder.path)
    caller.note("leave", agent="none answers", id=member.id)
    return Outcome.LEFT
