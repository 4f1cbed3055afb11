"""Which gateways of a site are chosen from, by what is believed of each. Pure.

Must never do: end by a belief that is wrong what works.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Belief:
    """By probes, by id. Of who is in none of these the registry alone tells. ``presumed``: those of
    the dead that have not been judged yet, because nothing was sent to them when this agent began.
    """

    dead: frozenset[str] = _NONE
    answering: frozenset[str] = _NONE
    presumed: frozenset[str] = _NONE


@dataclass(frozen=True, slots=True)
class Choice:
    """By id, of all sites. ``live``: those to choose from; some of each site that has any.
    ``works``: those of them that are known to. ``presumed``: as in ``Belief``."""

    live: frozenset[str] = _NONE
    works: frozenset[str] = _NONE
    presumed: frozenset[str] = _NONE


def choice(
    sites: Iterable[frozenset[str]],
    lost: frozenset[str],
    drained: frozenset[str],
    belief: Belief,
    former: Choice,
) -> Choice:
    """``sites``: of each one the gateways that count. ``lost``: in the registry."""
    live, works = set[str](), set[str]()
    for there in sites:
        works |= (found := _working(there, lost, drained, belief))
        live |= found or _left(there, lost, drained, former.live)
    return Choice(frozenset(live), frozenset(works), belief.presumed)


def _working(
    there: frozenset[str], lost: frozenset[str], drained: frozenset[str], belief: Belief
) -> frozenset[str]:
    alive, passing = there - lost - belief.dead, there & belief.answering
    return (alive - drained) or (passing - drained) or alive or passing


def _left(
    there: frozenset[str], lost: frozenset[str], drained: frozenset[str], former: frozenset[str]
) -> frozenset[str]:
    """Where none is known to work. The last belief of all may be the wrong one, so who was sent to
    goes on being sent to: to move would be to gateways that were given up before."""
    held, kept = there & former, there - drained
    return (held - drained) or held or (kept - lost) or kept or there
