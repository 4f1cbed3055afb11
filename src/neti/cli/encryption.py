"""The lines of ``neti status`` about the encrypted road."""

import time
from collections.abc import Iterator
from typing import Final

from neti.monitoring.encryption import Crossing, Encryption
from neti.stage import excepted
from neti.words import and_more, counted

_INDENT: Final = " " * 12
_DEVICES: Final = {
    "module": "the kernel's WireGuard module",
    "wireguard-go": "wireguard-go, which is slower than the kernel's module",
}


def lines(seen: Encryption, *, down: bool = False) -> list[str]:
    """The device, each site, and who is missing. ``down``: nothing of Neti is in the kernel, so
    nobody is reached by any road, and what was counted before counts no more."""
    below = () if down else _below(seen)
    return [_device(seen, down=down), *(_INDENT + line for line in below)]


def _device(seen: Encryption, *, down: bool) -> str:
    if down:
        return "encrypted by nothing: Neti is down on this host"
    if seen.implementation is None:
        return "encrypted by nothing: this host has no WireGuard device"
    device = _DEVICES.get(seen.implementation, seen.implementation)
    mtu = f", MTU {seen.mtu}" if seen.mtu is not None else ""
    return f"encrypted by {device}, UDP {seen.port}{mtu}"


def _below(seen: Encryption) -> Iterator[str]:
    if seen.public_key is not None:
        yield f"key {seen.public_key}"
    if seen.implementation is not None:
        yield _peers(seen)
    for name, one in sorted(seen.sites.items()):
        yield f"{name}: {_asked(seen, one)}: {_counts(seen, one)}"
    yield from excepted.lines(seen.excepted)
    if seen.keyless:
        ids = ", ".join(seen.keyless_ids) + and_more(seen.keyless - len(seen.keyless_ids))
        yield f"{counted(seen.keyless, 'member')} without a key: {ids}"
    for silent in seen.unheard:
        last = "had no handshake"
        if silent.since is not None:
            last = f"last shook hands {_ago(silent.since)}"
        yield f"no answer from {silent.id} ({silent.overlay}), which {last}"
    if seen.unheard_count > len(seen.unheard):
        yield f"and {seen.unheard_count - len(seen.unheard)} more do not answer"


def _peers(seen: Encryption) -> str:
    shaken = f"{counted(seen.peers, 'peer')}, {seen.shaken} with a handshake"
    if seen.last_handshake is not None:
        shaken += f" (the last {_ago(seen.last_handshake)}"
        if seen.oldest_handshake not in (None, seen.last_handshake):
            shaken += f", the oldest {_ago(seen.oldest_handshake or 0.0)}"
        shaken += ")"
    return f"{shaken}; {_size(seen.received)} received, {_size(seen.sent)} sent"


def _asked(seen: Encryption, one: Crossing) -> str:
    if one.asked != "require":
        return one.asked
    if seen.requires:
        return "require"
    if seen.on_trial:
        return "require, on trial: what goes in the clear is refused until the trial ends"
    return "require, which is NOT in effect: 'neti enforce'"


def _counts(seen: Encryption, one: Crossing) -> str:
    said = [f"{one.encrypted} encrypted", f"{one.clear} in the clear"]
    if one.none:
        why = "because this host has no device" if seen.implementation is None else "without a key"
        said.append(f"{one.none} cut off, {why}")
    return ", ".join(said)


def _ago(at: float) -> str:
    return f"{max(0.0, time.time() - at):.0f} s ago"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
