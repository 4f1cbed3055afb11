"""IPv4 forwarding of a gateway's interfaces: switched on, seen again, switched back.

No other interface is changed. Which ones we switched on is in the state folder before the first is:
one that forwarded already stays as it is.

Must never do: switch forwarding off where somebody else had switched it on.
"""

import errno
import json
import os
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final, Protocol

from neti import files
from neti.dataplane import if_link
from neti.dataplane.netlink import NETLINK_ROUTE, NetlinkSocket
from neti.errors import DataplaneError

_AT_MOST: Final = 1 << 20  # bytes of forwarding.json
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


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
        self, folder: Path, interfaces: Interfaces | None = None, boot: Path = _BOOT
    ) -> None:
        self._file = folder / "forwarding.json"
        self._interfaces = interfaces if interfaces is not None else KernelInterfaces()
        self._boot = boot

    def missing(self, wanted: Collection[str]) -> tuple[str, ...]:
        """Those that do not forward. One that is not there does not count."""
        return tuple(one for one in wanted if self._interfaces.forwards(one) is False)

    def follow(self, wanted: Collection[str]) -> tuple[str, ...]:
        """Let these forward, and let none do so any more that was switched on here and is not among
        them. Returns those that were switched on now."""
        ours = self._ours()
        for name in [one for one in ours if one not in wanted]:
            self._interfaces.forward(name, False)
        missing = self.missing(wanted)
        kept = [one for one in (*ours, *missing) if one in wanted]
        if kept != list(ours):
            self._keep(kept)
        for name in missing:
            self._interfaces.forward(name, True)
        return missing

    def put_back(self) -> bool:
        """Whether there was anything to be switched back."""
        ours = self._ours()
        if not ours:
            return False  # and a disk that cannot be written is no reason to fail
        for name in ours:
            self._interfaces.forward(name, False)
        self._keep([])
        return True

    # --- the disk ---

    def _ours(self) -> tuple[str, ...]:
        """Of this boot only: after a reboot the kernel has the machine's own values again."""
        try:
            held: Mapping[str, object] = json.loads(files.read(self._file, _AT_MOST))
            on = held["on"]
            if held["boot"] != self._this_boot() or not isinstance(on, list):
                return ()
            return tuple(dict.fromkeys(map(str, on)))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise DataplaneError(f"{self._file}: cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataplaneError(
                f"{self._file}: not readable as what Neti wrote there: remove it, and switch "
                "forwarding off yourself where it is not to be on (sysctl net.ipv4.conf)"
            ) from error

    def _keep(self, names: list[str]) -> None:
        beside = self._file.with_name(".forwarding.json.new")
        try:
            if not names:
                self._file.unlink(missing_ok=True)
                return
            # Root and the agent's own user both write here.
            beside.unlink(missing_ok=True)
            with os.fdopen(files.create(beside, os.O_WRONLY, 0o644), "w") as file:
                json.dump({"boot": self._this_boot(), "on": names}, file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._file)
        except OSError as error:
            raise DataplaneError(f"{self._file}: cannot be written: {error.strerror}") from error

    def _this_boot(self) -> str:
        try:
            return self._boot.read_text().strip()
        except OSError:
            return ""
