"""One WireGuard device as everybody else sees it: what it holds, its key, changes of its peers.

``netlink.KernelWireGuard`` speaks to the kernel's module, ``uapi.UapiWireGuard`` to wireguard-go,
``memory.MemoryWireGuard`` is for tests of the code above; all pass the same contract tests. The
link itself, the rule and the route that lead to it are in ``road``. See docs/design/road.md.

Must never do: keep, log or return a private key; touch a device but the one that it was made for.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from neti.model.wireguard_key import PrivateKey
from neti.ruleset.peers import Change, Device
from neti.ruleset.surroundings import SENT_MARK, TUNNEL_DEVICE

DEVICE: Final = TUNNEL_DEVICE
FWMARK: Final = SENT_MARK


class WireGuard(Protocol):
    """Not thread-safe: one thread decides and applies.

    Raises DeviceMissing when there is no such device, DeviceRefused when it says no, and
    DataplaneUnavailable when this process may not ask.
    """

    def device(self) -> Device | None:
        """What the device holds now; None: there is none. Costs some microseconds a peer."""

    def configure(self, private: PrivateKey, port: int) -> None:
        """Its key, the UDP port on which it listens, and FWMARK on what it sends. With another
        key than before, all sessions end, and begin anew with the next packet. Peers stay, but for
        one with this very key, which is dropped."""

    def apply(self, changes: Sequence[Change]) -> None:
        """In this order, one after another: there is no all-or-nothing. After an exception the
        first changes are in, the last ones are not, and which is which must be read anew. Doing all
        of them again is harmless.

        A peer with the device's own key is ignored silently, as WireGuard does."""

    def close(self) -> None: ...
