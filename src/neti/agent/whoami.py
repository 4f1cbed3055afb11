"""Who this host is, asked again and again while the agent runs.

Must never do: take another id than the agent started with, or believe at once that an address is
gone, unless gateways of other sites have shown it: none answers at that address.
"""

from collections.abc import Callable
from typing import Final

from neti import log
from neti.agent.core import Core
from neti.errors import NetiError
from neti.identity.doubt import lost_addresses
from neti.model import Host, IPAddress
from neti.model.settings import StaticIdentity

IDENTITY_EVERY: Final = 60.0  # seconds between looks at this host's own addresses
_SECOND_LOOK: Final = 10.0  # seconds until the second question whether an address is really gone


class OwnIdentity:
    """Not thread-safe: the loop's thread owns it. ``on_changed``: the addresses are others now."""

    def __init__(self, core: Core, on_changed: Callable[[], None]) -> None:
        self._core = core
        self._on_changed = on_changed
        self._doubted: frozenset[IPAddress] = frozenset()  # missing in the last answer

    def ask(self) -> None:
        """The timer "identity"."""
        settings, discover = self._core.settings, self._core.out.discover
        self._core.out.worker.submit("identity", lambda: discover(settings))

    def failed(self, error: NetiError) -> None:
        core = self._core
        core.soon("identity", IDENTITY_EVERY)
        core.problems.set("identity", str(error))
        log.warning("identity_not_read", what=str(error))

    def read(self, host: Host) -> None:
        """The job "identity" is done."""
        self._core.problems.clear("identity")
        self._take(host)
        self._core.soon("identity", _SECOND_LOOK if self._is_awaited() else IDENTITY_EVERY)

    def _take(self, host: Host) -> None:
        core = self._core
        if host.id != core.host.id:
            core.problems.set(
                "identity",
                f"this host now says it is {host.id}, but the agent started as {core.host.id}: "
                "restart the agent",
            )
            log.error("identity_changed", was=core.host.id, now=host.id)
            return
        if self._doubtful(host) or host == core.host:
            return
        log.info("addresses_changed", private=host.private, public=host.public)
        core.take_host(host)
        self._on_changed()

    def _is_awaited(self) -> bool:
        """Whether another answer is likely soon: whoever nobody answers has perhaps lost its
        address, and the answer came too early. A gateway without one is to get one."""
        core, part = self._core, self._core.members.gateways
        return part.unanswered or (core.host.public is None and core.host.id in part.named)

    def _doubtful(self, host: Host) -> bool:
        """Whether to ask once more before this is believed."""
        core, before = self._core, self._doubted
        gone = self._doubted = lost_addresses(core.host, host)
        if gone <= before or isinstance(core.settings.identity, StaticIdentity):
            return False
        if gone == {core.host.public} and core.members.gateways.unanswered:
            return False
        named = ", ".join(sorted(map(str, gone)))
        log.warning("addresses_missing", addresses=named, asked_again_seconds=_SECOND_LOOK)
        core.soon("identity", _SECOND_LOOK)
        return True
