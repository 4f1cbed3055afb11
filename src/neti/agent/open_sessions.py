"""SSH sessions that are open on this host: whether who is in can come in again.

What is judged is in ``neti.stage.way_in``. Must never do: take the absence of a session for a way
in. After a boot nobody is in, and nothing is known.
"""

import dataclasses
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from neti.agent.core import Core
from neti.agent.kept_out import admits_now, kept_from
from neti.config import load
from neti.errors import ConfigError
from neti.model import IPAddress
from neti.model.settings import Settings
from neti.ruleset.desired import Membership
from neti.ruleset.member_ports import both
from neti.ruleset.set_names import SetName
from neti.stage import way_in
from neti.stage.stages import Stage
from neti.stage.way_in import OperatorSession
from neti.state.loaded import Loaded

_IPV4: Final[tuple[SetName, ...]] = ("peers4", "tunnel_peers")
Sessions = Callable[[Collection[int]], list[OperatorSession]]


class OpenSessions:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def is_peer(self, address: IPAddress) -> bool:
        return _lets_in(self._core.members, address)

    def typed_in(self, said: Any, *, tried: bool = False) -> str | None:
        """Why the session in which a command was typed would not be let in. ``said``: its document;
        None: there is none. ``tried``: a trial of what the file's ``member_ports`` take away is
        about to begin."""
        kept_out = self._by_the_file if tried else self._by_both
        return way_in.refusal(said, self._core.settings, self.is_peer, kept_out)

    def shut_out(self) -> str:
        """For a trial's evidence; empty: nobody who is in would be kept out."""
        core = self._core
        sessions = core.out.ssh_sessions(way_in.ports(core.settings))
        kept_out = self._by_the_file if core.stage.narrows else self._by_both
        return way_in.shut_out(sessions, core.settings, self.is_peer, kept_out)

    def _by_the_file(self, address: IPAddress, port: int) -> str:
        """As a trial of its ``member_ports`` would."""
        return kept_from(self._core, address, port, self._core.settings.member_ports)

    def _by_both(self, address: IPAddress, port: int) -> str:
        """As it is now: by the file, and what is in force beside it."""
        return kept_from(self._core, address, port, admits_now(self._core))

    def refuse_to_shut_out(self, said: Any, new: Settings) -> None:
        """Raises ConfigError where this host drops, or would begin to, by a new configuration which
        no longer lets in an SSH session that is open now. A session that the old one does not let
        in either loses nothing, unless it is the one in which somebody has the file read (``said``)
        and this host does not drop yet."""
        core, record = self._core, self._core.stage.record
        if not way_in.drops(record, new):
            return
        then = both(new.member_ports, self._core.stage.record.member_ports)

        def kept_then(address: IPAddress, port: int) -> str:
            return kept_from(core, address, port, then)

        refused = way_in.refusal(said, new, self.is_peer, kept_then)
        if record.stage is not Stage.SHADOW and self.typed_in(said) is not None:
            refused = None
        if refused is None:
            sessions = core.out.ssh_sessions(way_in.ports(core.settings, new))
            kept = self._by_both, kept_then
            refused = way_in.loses(sessions, core.settings, new, record, self.is_peer, kept)
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
    """By its real address, or by its overlay address out of the tunnel."""
    if address.version == 6:
        return members.elements.wants("peers6", str(address))
    return any(members.elements.wants(where, str(address)) for where in _IPV4)
