"""SSH sessions that are open on this host: whether who is in can come in again.

What is judged is in ``neti.stage.way_in``. Must never do: take the absence of a session for a way
in. After a boot nobody is in, and nothing is known.
"""

import dataclasses
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from neti.agent.core import Core
from neti.config import load
from neti.errors import ConfigError
from neti.model import IPAddress
from neti.model.settings import Settings
from neti.ruleset.desired import Membership
from neti.ruleset.set_names import SetName
from neti.stage import way_in
from neti.stage.stages import Stage
from neti.stage.way_in import OperatorSession
from neti.state.loaded import Loaded

Sessions = Callable[[Collection[int]], list[OperatorSession]]


class OpenSessions:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def is_peer(self, address: IPAddress) -> bool:
        return _lets_in(self._core.members, address)

    def typed_in(self, said: Any) -> str | None:
        """Why the session in which a command was typed would not be let in. ``said``: its document;
        None: there is none."""
        return way_in.refusal(said, self._core.settings, self.is_peer)

    def shut_out(self) -> str:
        """For a trial's evidence; empty: nobody who is in would be kept out."""
        core = self._core
        sessions = core.out.ssh_sessions(way_in.ports(core.settings))
        return way_in.shut_out(sessions, core.settings, self.is_peer)

    def refuse_to_shut_out(self, said: Any, new: Settings) -> None:
        """Raises ConfigError where this host drops, or would begin to, by a new configuration which
        no longer lets in an SSH session that is open now. A session that the old one does not let
        in either loses nothing, unless it is the one in which somebody has the file read (``said``)
        and this host does not drop yet."""
        core, record = self._core, self._core.stage.record
        if not way_in.drops(record, new):
            return
        refused = way_in.refusal(said, new, self.is_peer)
        if record.stage is not Stage.SHADOW and self.typed_in(said) is not None:
            refused = None
        if refused is None:
            sessions = core.out.ssh_sessions(way_in.ports(core.settings, new))
            refused = way_in.loses(sessions, core.settings, new, record, self.is_peer)
        if refused is not None:
            raise ConfigError(f"{refused}; 'neti reload --anyway', if that is meant")


def last_good_instead(
    settings: Settings, good: Path, loaded: Loaded, sessions: Sessions
) -> tuple[Settings, str] | None:
    """For a start: the settings that were in force last, and why, where the file was edited since
    and an open session would be shut out by what it says. None: the file counts. After a boot
    nobody is in, so it does."""
    host = loaded.itself.host
    if host is None or loaded.record is None:
        return None
    try:
        last = load(good)
    except (ConfigError, OSError):
        return None
    last = dataclasses.replace(last, path=settings.path, table_files_path=settings.table_files_path)
    members = Membership.empty(last, host, frozenset())
    members.remember(loaded.members)
    members.take_changes()
    found = sessions(way_in.ports(last, settings))
    why = way_in.loses(found, last, settings, loaded.record, lambda one: _lets_in(members, one))
    if why is None:
        return None
    return last, (
        f"the configuration was edited while no agent ran: {why}; using the last valid one "
        "('neti reload --anyway' takes the new one)"
    )


def _lets_in(members: Membership, address: IPAddress) -> bool:
    where: SetName = "peers4" if address.version == 4 else "peers6"
    return members.elements.wants(where, str(address))
