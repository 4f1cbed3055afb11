"""Follows which gateways operators are taking out of use: no host is sent to them any more.

Must never do: leave a site without a gateway that works because of it.
"""

from neti import log
from neti.agent.core import Core
from neti.registry.drained import DrainedUnreadable, decode
from neti.words import some


class DrainedGateways:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def take(self, value: bytes | None) -> None:
        """The live setting, as it stands now. One that cannot be read changes nothing."""
        core = self._core
        core.live.faults.pop("drained", None)
        try:
            drained = decode(value)
        except DrainedUnreadable as error:
            core.live.faults["drained"] = str(error)
            log.warning("live_setting_ignored", what=str(error))
            return
        if drained != core.members.gateways.drained:
            core.members.gateways.drain(drained)
            log.info("gateways_drained", ids=some(sorted(drained)))
