"""What the kernel holds against what it should hold: the difference, as one transaction.

A structure counts as untouched if the kernel lists it exactly as it did right after we wrote it. We
do not interpret rules.

Must never do: read or write anything, or refresh what ends by the kernel's own clock.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from neti.ruleset.delta import Changes, Elements
from neti.ruleset.enforce import Enforcement, arming
from neti.ruleset.objects import (
    RELAXED_MARK,
    KernelState,
    RewriteChains,
    Structure,
    Transaction,
)
from neti.ruleset.openings import Left, differing
from neti.ruleset.openings import commands as open_commands
from neti.ruleset.replace import replacement
from neti.ruleset.timed import Mended

# TCP keepalive's default of two hours and its nine probes (tcp(7)): a peer that is silent for
# longer had no connection to keep.
GRACE_SECONDS: Final = 8100
# nf_conntrack_tcp_timeout_established, 5 days: no tracked connection outlives it unused.
REVOKE_SECONDS: Final = 432_000


@dataclass(frozen=True, slots=True)
class SeenStructure:
    """How the kernel listed the structure that was written from the text with this digest."""

    digest: str
    listing: str


class Rewrite(StrEnum):
    """How much of the structure is written."""

    NOTHING = "as is"
    CHAINS = "chains"
    ALL = "all"
    NEW = "new"  # all of it, where there was none

    @property
    def whole(self) -> bool:
        """The table is a new one, with its elements."""
        return self in (Rewrite.ALL, Rewrite.NEW)


@dataclass(frozen=True, slots=True)
class Plan:
    transaction: Transaction
    structure: Rewrite
    changes: Changes


def digest(structure: Structure) -> str:
    return hashlib.sha256(structure.text().encode()).hexdigest()


def plan(
    structure: Structure,
    elements: Elements,
    kernel: KernelState,
    seen: SeenStructure | None,
    *,
    definitions: Callable[[Structure], frozenset[str]],
    mended: Iterable[Mended] = (),
    grace_seconds: int = GRACE_SECONDS,
    openings: Left = MappingProxyType({}),
) -> Plan:
    """The transaction that makes ``kernel`` hold ``structure`` and ``elements``.

    ``elements`` must have been told of ``kernel`` (``kernel_is``). ``definitions``: what sets, maps
    and counters of a structure the kernel would list; called only if the structure is not as it was
    left. ``mended``: what others did to the sets whose elements end by the kernel's clock.
    ``grace_seconds``: for connections that are older than a new table; 0 if there can be none.
    ``openings``: what is open for a time, by what it has left.
    """
    changes = elements.changes()
    mended = list(mended)
    mend(changes, mended)
    if kernel.structure is None:
        new = _whole(structure, elements, kernel, mended, grace_seconds, openings)
        return Plan(new, Rewrite.NEW, changes)
    armed = (*open_commands(openings, kernel), *arming(elements.enforcement, kernel))
    if seen is not None and kernel.structure == seen.listing and seen.digest == digest(structure):
        return Plan(Transaction((*changes.commands(), *armed)), Rewrite.NOTHING, changes)
    # A rule may name any set of the wanted structure, so all of those must be there.
    if kernel.definitions == definitions(structure):
        chains = RewriteChains(structure, kernel.chain_names)
        return Plan(Transaction((chains, *changes.commands(), *armed)), Rewrite.CHAINS, changes)
    return Plan(
        _whole(structure, elements, kernel, mended, grace_seconds, openings), Rewrite.ALL, changes
    )


def mend(changes: Changes, mended: Iterable[Mended]) -> None:
    """Add to ``changes`` what undoes what others did to the sets whose elements end by the kernel's
    clock."""
    for where, back, gone in mended:
        decided = changes.revoked.get(where, {}).keys() | set(changes.pardoned.get(where, ()))
        for key, left in back.items():
            if key not in decided:
                changes.revoke(where, key, left)
        for key in gone:
            if key not in decided:
                changes.pardon(where, key)


def _whole(
    structure: Structure,
    elements: Elements,
    kernel: KernelState,
    mended: Iterable[Mended],
    grace_seconds: int,
    openings: Left,
) -> Transaction:
    timed = {where: dict(held) for where, held in kernel.timed.items()}
    for where, back, gone in mended:
        kept = {key: left for key, left in timed.get(where, {}).items() if key not in gone}
        timed[where] = kept | back
    held = replace(kernel, timed=timed)
    return replacement(structure, elements, held, grace_seconds=grace_seconds, openings=openings)


def drift(
    kernel: KernelState,
    elements: Elements,
    mended: Iterable[Mended],
    *,
    left: Enforcement,
    seen: SeenStructure,
    openings: tuple[Left, Left],
) -> tuple[str, ...]:
    """How the kernel differs from how it was left, one sentence each; empty: it does not.
    ``openings``: of those that were left there, what each had left as the kernel began to be read,
    and has by now."""
    if kernel.structure is None:
        return ("the table was gone",)
    found = [] if kernel.structure == seen.listing else ["rules, sets or flags differed"]
    changed = elements.differences(kernel)
    found += [f"{count} in {where}" for where, count in changed.items()]
    found += [f"{len(back) + len(gone)} in {where}" for where, back, gone in mended]
    found += [f"{count} in {where}" for where, count in differing(*openings, kernel).items()]
    if left.permanent and not kernel.armed_for_good:
        found.append("what map enforce holds was taken out")
    elif not left and kernel.enforce.keys() - {RELAXED_MARK}:
        found.append("something was put into map enforce")
    if left.require is None and not kernel.requires_for_good:
        found.append("what set require holds was taken out")
    elif not left.requires and kernel.require:
        found.append("something was put into set require")
    if not left.narrow and kernel.narrowed:
        found.append("something was put into map narrowed")
    return tuple(found)
