"""What is wrong with the encrypted road, as ``neti status`` and ``neti check`` say it. Pure.

Must never do: alarm about a member that is only asked to be encrypted ("prefer") and is not: that
is allowed, and ``neti status`` shows it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from neti.model.problems import Problem, Severity, problem
from neti.monitoring.encryption import Encryption
from neti.words import and_more, counted

_NAMED: Final = 5
_NOT_KEPT: Final = "encryption_not_kept"
_NOT_IN_EFFECT: Final = "encryption_not_in_effect"
_KEYLESS: Final = "encryption_keyless"
# The agent's problems that ``neti check`` judges by the counts beside them, which an agent of an
# earlier version tells too.
COUNTED: Final = frozenset({_NOT_KEPT, _NOT_IN_EFFECT, _KEYLESS})


@dataclass(frozen=True, slots=True)
class Fault:
    """``passing``: it may be over in a moment, because the agent repairs it."""

    severity: Severity
    text: str
    passing: bool = True


def faults(seen: Encryption, road: Sequence[str]) -> Iterator[Fault]:
    """``road``: what of device, rule and route is not in the kernel as it should be."""
    for one in problems(seen):
        yield Fault(one.severity, one.sentence, passing=one.code != _NOT_IN_EFFECT)
    broken, only = "; ".join(road), seen.requires or seen.encrypted_only
    if seen.implementation is None:
        broken = "there is no WireGuard device" if only else ""
    if broken and only:
        text = (
            f"the encrypted road is broken ({broken}): members that must be reached by it cannot be"
        )
        yield Fault(Severity.CRITICAL, text)
    elif broken:
        yield Fault(Severity.WARNING, f"the encrypted road is broken: {broken}")


def problems(seen: Encryption) -> Iterator[Problem]:
    """What follows from the counts."""
    if seen.requires and seen.clear:
        sites = ", ".join(
            f"{one.clear} in {name}"
            for name, one in sorted(seen.sites.items())
            if one.asked == "require" and one.clear
        )
        yield problem(
            _NOT_KEPT, f"encryption is required, but members are reached in the clear: {sites}"
        )
    elif seen.require_configured and not seen.requires and not seen.on_trial:
        yield problem(
            _NOT_IN_EFFECT,
            "neti.yml requires encryption, but that is not in effect on this host, so traffic may "
            "go in the clear: neti enforce",
        )
    # Where this host has no device the fault is its own, and not theirs.
    count, ids = _keyless(seen)
    if count and seen.implementation is not None:
        yield problem(_KEYLESS, _cut_off(seen, count, ids))


def _keyless(seen: Encryption) -> tuple[int, Sequence[str]]:
    """How many are cut off for want of a key, and the first of them. Others without one are reached
    in the clear, and one that is cut off and has a key is about to get a peer."""
    if seen.keyless_cut_off is not None:
        return seen.keyless_cut_off, seen.keyless_cut_off_ids
    # An agent of an earlier version tells only how many there are of both.
    count = min(seen.cut_off, seen.keyless)
    return count, seen.keyless_ids if count == seen.keyless else ()


def _cut_off(seen: Encryption, count: int, ids: Sequence[str]) -> str:
    named = ids[:_NAMED]
    which = f" ({', '.join(named)}{and_more(count - len(named))})" if named else ""
    why = "encryption is required" if seen.requires else "gateways pass on what is encrypted only"
    return (
        f"{why}, and {counted(count, 'member')} without a WireGuard key cannot be reached"
        f"{which}: their neti.yml must say encrypt, too"
    )
