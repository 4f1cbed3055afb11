"""IPv4 forwarding of a gateway's interfaces: switched on, seen again, switched back.

No other interface is changed. Which ones we switched on is in the state folder before the first is,
if the disk takes it: one that forwarded already stays as it is. A full disk keeps no gateway from
passing on: then we know what is ours for as long as the process lives, and note it once we can.

Must never do: switch forwarding off where somebody else had switched it on.
"""

import errno
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from neti.clock import BOOT
from neti.dataplane import if_link
from neti.dataplane.boot_note import BootNote, NoteTorn
from neti.dataplane.netlink import NETLINK_ROUTE, NetlinkSocket
from neti.errors import DataplaneError
from neti.words import some


class NotNoted(DataplaneError):
    """All that is wanted forwards, and the disk has no note of what was switched on, or none that
    can be read."""


class Interfaces(Protocol):
    """Raises DataplaneError."""

    def forwards(self, name: str) -> bool | None:
        """None: there is no such interface."""

    def forward(self, name: str, on: bool) -> None: ...


class KernelInterfaces:
    """In the calling thread's network namespace."""

    def forwards(self, name: str) -> bool | None:
        with closing(NetlinkSocket(NETLINK_ROUTE)) as kernel:
            held = if_link.read(kernel, name)
        return None if held is None else bool(held.setting(if_link.FORWARDING))

    def forward(self, name: str, on: bool) -> None:
        words = if_link.by_name(name) + if_link.with_setting(if_link.FORWARDING, on)
        with closing(NetlinkSocket(NETLINK_ROUTE)) as kernel:
            kernel.request(if_link.NEW_LINK, words, ignore=frozenset({errno.ENODEV}))


class Forwarding:
    """Owns ``forwarding.json`` in the state folder. Not thread-safe. Raises DataplaneError when the
    kernel or the disk refuses."""

    def __init__(
        self, folder: Path, interfaces: Interfaces | None = None, boot: Path = BOOT
    ) -> None:
        by_hand = "switch forwarding off yourself where it is not to be on (sysctl net.ipv4.conf)"
        self._note = BootNote(folder / "forwarding.json", boot, by_hand)
        self._interfaces = interfaces if interfaces is not None else KernelInterfaces()
        # Switched on by this process, whatever becomes of the note.
        self._switched: tuple[str, ...] = ()

    def missing(self, wanted: Collection[str]) -> tuple[str, ...]:
        """Those that do not forward. One that is not there does not count."""
        return tuple(one for one in wanted if self._interfaces.forwards(one) is False)

    def follow(self, wanted: Collection[str]) -> tuple[str, ...]:
        """Let these forward, and let none do so any more that was switched on here and is not among
        them. Returns those that were switched on now. Raises NotNoted behind it all, with each
        call until the disk takes the note."""
        torn: NoteTorn | None = None
        try:
            noted = self._noted()
        except NoteTorn as error:
            if not wanted:
                raise
            noted, torn = (), error  # most likely an earlier boot's; and hosts wait for a gateway
        ours = tuple(dict.fromkeys((*noted, *self._switched)))
        for name in [one for one in ours if one not in wanted]:
            self._interfaces.forward(name, False)
        missing = self.missing(wanted)
        kept = [one for one in dict.fromkeys((*ours, *missing)) if one in wanted]
        refused = self._refused(kept) if kept != list(noted) else None
        self._switched = tuple(kept)
        unnoted = [one for one in kept if one not in noted] if refused else []
        for name in missing:
            self._interfaces.forward(name, True)
        if refused and unnoted:
            raise NotNoted(
                f"forwarding of {some(unnoted)} is on, and it is not on disk that Neti "
                f"switched it on ({refused}), so 'neti down' may leave it on"
            ) from refused
        if refused:
            raise refused
        if torn and not kept:
            raise NotNoted(f"'neti down' may leave forwarding on: {torn}") from torn
        return missing

    def put_back(self) -> bool:
        """Whether there was anything to be switched back."""
        noted = self._noted()
        still = [one for one in self._switched if self._interfaces.forwards(one)]
        ours = dict.fromkeys((*noted, *still))
        for name in ours:
            self._interfaces.forward(name, False)
        self._switched = ()
        if noted:  # otherwise a disk that cannot be written is no reason to fail
            self._keep([])
        return bool(ours)

    def _refused(self, names: list[str]) -> DataplaneError | None:
        """Why the disk does not take this note; None: it has it."""
        try:
            self._keep(names)
        except DataplaneError as error:
            return error
        return None

    def _noted(self) -> tuple[str, ...]:
        return self._note.read(_switched_on, ())

    def _keep(self, names: list[str]) -> None:
        if names:
            self._note.write({"on": names})
        else:
            self._note.remove()


def _switched_on(held: Mapping[str, Any]) -> tuple[str, ...]:
    on = held["on"]
    if not isinstance(on, list):
        raise ValueError("not a list")
    return tuple(dict.fromkeys(map(str, on)))
