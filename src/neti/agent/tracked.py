"""Tracked connections of this host: those that must end, and removed sources that have none left.

Must never do: end a connection whose translation is as it should be.
"""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from neti import log
from neti.agent.core import Core
from neti.errors import DataplaneError
from neti.ruleset.set_names import SetName

_SWEEP_EVERY: Final = 60.0  # seconds between looks for removed sources without connections
_END_AFTER: Final = 0.5  # seconds in which addresses that lead nowhere are gathered


class Tracked:
    """Not thread-safe: the loop's thread owns it. ``refused``: the kernel said no."""

    def __init__(self, core: Core, refused: Callable[[DataplaneError], None]) -> None:
        self._core = core
        self._refused = refused

    def end_soon(self) -> None:
        if self._core.out.reconciler.connections_to_end:
            self._core.soon("connections", _END_AFTER)

    def end(self) -> None:
        try:
            self._core.out.reconciler.end_connections(self._core.members.elements)
        except DataplaneError as error:
            self._refused(error)

    def end_stale(self) -> None:
        """End connections with an outdated translation: they began without our rules, or an earlier
        run was killed before it did this."""
        core = self._core
        if core.down.now:
            return
        overrides = core.settings.nat_overrides

        def leads(overlay: IPv4Address) -> IPv4Address | None:
            return overrides.get(overlay) or core.members.elements.leads(overlay)

        try:
            ended = core.out.connections.end_stale(
                core.settings.overlay_subnet, leads, core.members.elements.goes_on
            )
        except DataplaneError as error:
            self._refused(error)
            return
        if ended:
            log.info("stale_connections_ended", connections=ended)

    def sweep(self) -> None:
        """Remember a removed source only for as long as it has connections."""
        core = self._core
        core.soon("sweep", _SWEEP_EVERY)
        revoked = core.members.elements.revoked
        if core.down.now or not any(revoked.values()):
            return
        four = {IPv4Address(key): key for key in revoked["revoked4"]}
        six = {IPv6Address(key): key for key in revoked["revoked6"]}
        try:
            alive = core.out.connections.sources_with_connections([*four, *six])
            self._pardon("revoked4", [key for address, key in four.items() if address not in alive])
            self._pardon("revoked6", [key for address, key in six.items() if address not in alive])
        except DataplaneError as error:
            self._refused(error)

    def _pardon(self, where: SetName, keys: list[str]) -> None:
        self._core.out.reconciler.pardon(self._core.members.elements, where, keys)
