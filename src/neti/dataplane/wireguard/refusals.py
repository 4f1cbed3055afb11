"""What a WireGuard device's errno means, in words that say what to do."""

import errno
import os
from typing import Final

from neti.errors import DeviceRefused

_HINTS: Final = {
    errno.EADDRINUSE: (
        "another program uses that UDP port: end it, or choose another tunnel_port, on all hosts"
    ),
    errno.ENOMEM: "this machine is short of memory",
    errno.EAFNOSUPPORT: "this kernel does not speak IPv6",
}


def refused(name: str, what: str, number: int) -> DeviceRefused:
    why = _HINTS.get(number, os.strerror(number))
    return DeviceRefused(f"{name} did not take {what}: {why}", number)
