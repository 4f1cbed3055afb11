"""Follows an operator's release for the whole fleet: once, and for nobody who is lost later.

The registry tells it after all that it tells of who is gone, also to an agent that was away.

Must never do: follow a release twice, or let go of a host that it does not name.
"""

from dataclasses import replace
from typing import Final

from neti import log
from neti.agent.core import Core
from neti.fleet.attendance import moment
from neti.registry.release import Release, ReleaseUnreadable, decode
from neti.words import some

_REMEMBERED: Final = 64  # four times as many as the registry keeps


class FleetRelease:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def take(self, value: bytes | None) -> None:
        """The live setting, as it stands now."""
        core = self._core
        core.live.faults.pop("release", None)
        try:
            releases = decode(value)
        except ReleaseUnreadable as error:
            core.live.faults["release"] = str(error)
            log.warning("live_setting_ignored", what=str(error))
            return
        known = core.disk.itself.followed
        new = [one for one in releases if one.id not in known]
        for release in new:
            self._follow(release)
        if new:
            followed = (*known, *(one.id for one in new))[-_REMEMBERED:]
            # If we are killed before this, it is followed again, for the same hosts.
            core.disk.keep_self(replace(core.disk.itself, followed=followed))

    def _follow(self, release: Release) -> None:
        fleet = self._core.members.fleet
        absent = [i for i, lost in fleet.lost.items() if release.about(i, lost.member.site)]
        held = [host_id for host_id in absent if host_id in fleet.holds]
        fleet.let_pass(absent)
        log.warning(
            "released",
            hosts=len(held),
            ids=some(held),
            lost=len(absent) - len(held),
            site=release.site or "all",
            by=f"release --fleet ({release.by})",
            said=moment(release.at),
        )
