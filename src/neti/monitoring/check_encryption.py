"""What ``neti check`` concludes about the encrypted road. Pure.

Must never do: alarm about a member that is only asked to be encrypted ("prefer") and is not: that
is allowed, and ``neti status`` shows it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from neti.model.problems import Severity
from neti.monitoring.encryption import Encryption
from neti.words import and_more, counted

_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Fault:
    """``passing``: it may be over in a moment, because the agent repairs it."""

    severity: Severity
    text: str
    passing: bool = True


def faults(seen: Encryption, road: Sequence[str]) -> Iterator[Fault]:
    """``road``: what of device, rule and route is not in the kernel as it should be."""
    if seen.requires and seen.clear:
        sites = ", ".join(
            f"{one.clear} in {name}"
            for name, one in sorted(seen.sites.items())
            if one.asked == "require" and one.clear
        )
        text = f"encryption is required, but members are reached in the clear: {sites}"
        yield Fault(Severity.CRITICAL, text)
    elif seen.require_configured and not seen.requires and not seen.on_trial:
        text = (
            "neti.yml requires encryption, but that is not in effect on this host, so traffic may "
            "go in the clear: neti enforce"
        )
        yield Fault(Severity.WARNING, text, passing=False)
    if seen.requires and seen.cut_off and seen.implementation is not None:
        yield _cut_off(seen)
    broken = "; ".join(road)
    if seen.implementation is None:
        broken = "there is no WireGuard device" if seen.requires else ""
    if broken and seen.requires:
        text = (
            f"the encrypted road is broken ({broken}): members of sites that require encryption "
            "cannot be reached"
        )
        yield Fault(Severity.CRITICAL, text)
    elif broken:
        yield Fault(Severity.WARNING, f"the encrypted road is broken: {broken}")


def _cut_off(seen: Encryption) -> Fault:
    """Where this host has no device the fault is its own, and not theirs."""
    named, ids = seen.keyless_ids[:_NAMED], ""
    if seen.keyless == seen.cut_off:  # otherwise others are among them, which are reached
        ids = f" ({', '.join(named)}{and_more(seen.keyless - len(named))})"
    text = (
        f"encryption is required, and {counted(seen.cut_off, 'member')} without a WireGuard key "
        f"cannot be reached{ids}: their neti.yml must say encrypt, too"
    )
    return Fault(Severity.WARNING, text)
