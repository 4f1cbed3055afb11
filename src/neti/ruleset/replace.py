"""The whole table anew: commands for what no change of elements or chains can do. Pure.

It promises that there is no moment without the table, and that what ends by the kernel's own clock
(removed sources, grace time, a trial) is carried over with the time it has left.

Must never do: carry over a trial that is over by then.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from neti.ruleset.delta import Elements
from neti.ruleset.enforce import Enforcement
from neti.ruleset.objects import (
    FAMILIES,
    REVOKED_BY,
    TIMED,
    AddElements,
    AddTimed,
    Command,
    CreateTable,
    DeleteElements,
    DeleteTable,
    KernelState,
    Structure,
    Transaction,
)
from neti.ruleset.openings import Left
from neti.ruleset.set_names import SetName


def replacement(
    structure: Structure,
    elements: Elements,
    kernel: KernelState,
    *,
    grace_seconds: int,
    openings: Left = MappingProxyType({}),
) -> Transaction:
    """The whole table anew, in one transaction.

    Removed sources and the rest of the grace time are carried over. Whoever is no peer in the new
    table becomes a removed source. In a table that is made for the first time the grace time starts
    now. What is open for a time (``openings``) is so for what it has left.
    """
    commands: list[Command] = []
    armed, over = _carried(structure, elements.enforcement, kernel)
    commands += over
    if kernel.structure is not None:
        commands.append(DeleteTable(kernel.handle))
    commands.append(CreateTable(structure))
    commands += armed.commands()
    for where in elements.sets:
        wanted = elements.desired(where)
        if wanted and structure.defines(where):
            commands.append(AddElements(where, wanted))
    timed: dict[SetName, dict[str, int]] = {
        where: dict(kernel.timed.get(where, {})) for where in TIMED
    }
    for peers, revoked in REVOKED_BY.items():
        wanted, never = elements.desired(peers), dict.fromkeys(elements.never_revoke)
        carried = {k: left for k, left in timed.get(revoked, {}).items() if k not in wanted | never}
        gone = kernel.elements.get(peers, {}).keys() - wanted.keys() - elements.never_revoke
        timed[revoked] = carried | dict.fromkeys(sorted(gone), elements.revoke_seconds)
    if kernel.structure is None and grace_seconds > 0:
        timed["grace"] = {"ipv4": grace_seconds, "ipv6": grace_seconds}
    timed |= {where: dict(held) for where, held in openings.items() if structure.defines(where)}
    for where, timeouts in timed.items():
        current = {key: left for key, left in timeouts.items() if left > 0}
        if current:
            commands.append(AddTimed(where, current))
    return Transaction(tuple(commands))


def _carried(
    structure: Structure, armed: Enforcement, kernel: KernelState
) -> tuple[Enforcement, list[DeleteElements]]:
    """What is to be armed in the new table, and what has to be in the old one until then. A trial
    is carried over with the time that the kernel says is left. If it is over when this is applied,
    or ``neti relax`` has emptied the map, the deletion fails, and the whole transaction with it."""
    over = []
    if armed.permanent:
        if kernel.armed:
            over.append(DeleteElements("enforce", FAMILIES))
    else:
        armed = replace(armed, seconds=_left(armed.seconds, kernel.enforce))
        if armed:
            over.append(DeleteElements("enforce", FAMILIES))
    if not structure.has("set require"):
        armed = replace(armed, require=0)
    elif armed.require is not None:
        armed = replace(armed, require=_left(armed.require, kernel.require or {}))
        if armed.requires:
            over.append(DeleteElements("require", FAMILIES))
    armed = replace(
        armed,
        narrow=_left(armed.narrow, kernel.narrowed or {}) if structure.has("map narrowed") else 0,
    )
    if armed.narrow:
        over.append(DeleteElements("narrowed", FAMILIES))
    return armed, over


def _left(seconds: float, held: Mapping[str, int | None]) -> float:
    """Of a trial of so many seconds, as the kernel holds it."""
    return max(0, min(seconds, *(held.get(family) or 0 for family in FAMILIES)))
