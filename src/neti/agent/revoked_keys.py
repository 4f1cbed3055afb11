"""Follows which public keys operators revoked: nobody is believed one, and this host takes another.

Must never do: believe a key again because the registry does not name it any more.
"""

from typing import Final

from neti import log
from neti.agent.core import Core
from neti.registry.revoked import CHARS, RevokedUnreadable, decode

# Seconds in which the host of a revoked key makes another, so that its connections go on.
_UNTIL_ENDED: Final = 3.0


class RevokedKeys:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def take(self, value: bytes | None) -> None:
        """The live setting, as it stands now."""
        core = self._core
        core.live.faults.pop("revoked", None)
        try:
            revoked = frozenset(decode(value))
        except RevokedUnreadable as error:
            core.live.faults["revoked"] = str(error)
            log.warning("live_setting_ignored", what=str(error))
            return
        if core.members.fleet.revoke_keys(revoked):
            core.soon("revoked", _UNTIL_ENDED)
        if core.own_key.wanted and core.own_key.text[:CHARS] in revoked:
            log.warning("key_revoked", public=core.own_key.text)
            core.own_key.another()
            core.soon("register")

    def end(self) -> None:
        """The timer "revoked"."""
        self._core.members.fleet.end_revoked_keys()
