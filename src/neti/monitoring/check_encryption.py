"""What ``neti check`` concludes about the encrypted road. Pure.

Must never do: alarm about a member that is only asked to be encrypted ("prefer") and is not: that
is allowed, and ``neti status`` shows it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from neti.model.problems import Severity
from neti.monitoring.encryption import Encryption


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
    elif seen.require_configured and not seen.requires:
        text = (
            "neti.yml requires encryption, but that is not in effect on this host, so traffic may "
            "go in the clear: neti enforce"
        )
        yield Fault(Severity.WARNING, text, passing=False)
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
