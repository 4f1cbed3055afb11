"""Who reaches whom in a fleet that verifies itself: which members each host tries, and what comes
of all their rows. Pure.

A small fleet's host tries every member. In a large one each tries ``MOST`` others, so that 16,000
hosts make 3.2 million connections and not 256 million. By the operators' word all agents put the
members into one order, another one with each word, and each tries those behind it. So every member
is tried by as many as every other, whoever asks can tell by whom, and nobody chooses its judges.

Must never do: count a host that gave no row, or tried nearly nobody, as one that reaches everybody.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from typing import Final

from neti.registry.detail import Verified

MOST: Final = 200
# Of those that a host should try, so many percent may have come or gone meanwhile.
_SLACK: Final = 5


def order(ids: Iterable[str], word: str) -> list[str]:
    """The members as a ring. ``word``: the number in the operators' word."""
    key = word.encode()
    return sorted(set(ids), key=lambda i: (blake2b(i.encode(), digest_size=8, key=key).digest(), i))


def tried_by(own: str, ids: Iterable[str], word: str) -> list[str]:
    """Whom the host ``own`` tries. ``ids``: of all members."""
    ring = order({*ids, own}, word)
    at = ring.index(own) + 1
    return [*ring[at:], *ring[: at - 1]][:MOST]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A member that others did not reach. ``by``: who says so; ``of``: how many tried it, as far
    as they gave a row."""

    id: str
    by: tuple[str, ...]
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """``targets``: the worst first. ``cut``: by id how many more such a host did not reach than it
    has room to name, so that no target counts them. ``few``: whose row is of fewer tries than it
    should have made; ``silent``: who gave no row."""

    rows: Mapping[str, Verified]
    targets: tuple[Target, ...]
    cut: Mapping[str, int]
    few: tuple[str, ...]
    silent: tuple[str, ...]

    @property
    def whole(self) -> bool:
        return bool(self.rows) and not (self.targets or self.cut or self.few or self.silent)


def matrix(
    rows: Mapping[str, Verified], members: Collection[str], others: Collection[str] = ()
) -> Matrix:
    """``rows``: what each of the ``members`` says, as far as it says anything. Who is no member any
    more is nobody's loss. ``others``: members of other sites, where only one is looked at: a row
    names those of its own site first, so where it names others it has named all of its own."""
    rows = {i: row for i, row in rows.items() if i in members}
    missed: dict[str, list[str]] = {}
    for host_id, row in sorted(rows.items()):
        for target in row.missed:
            if target in members and target != host_id:
                missed.setdefault(target, []).append(host_id)
    far = frozenset(others)
    tried = tries(rows, {*members, *far})
    enough = min(MOST, len({*members, *far}) - 1) * (100 - _SLACK)
    targets = [Target(id=i, by=tuple(by), of=max(len(by), tried[i])) for i, by in missed.items()]
    return Matrix(
        rows=rows,
        targets=tuple(sorted(targets, key=lambda t: (-len(t.by) / t.of, -len(t.by), t.id))),
        cut={
            i: row.missed_more
            for i, row in sorted(rows.items())
            if row.missed_more and not far.intersection(row.missed)
        },
        few=tuple(i for i, row in sorted(rows.items()) if row.tried * 100 < enough),
        silent=tuple(sorted(set(members) - rows.keys())),
    )


def tries(rows: Mapping[str, Verified], members: Collection[str]) -> dict[str, int]:
    """By how many of those who gave a row each member was tried. A host that was not asked by a
    word tried all."""
    tries = dict.fromkeys(members, 0)
    words: dict[str, list[str]] = {}
    for host_id, row in rows.items():
        words.setdefault(row.word, []).append(host_id)
    for word, ids in words.items():
        ring = order(members, word)
        counts = _behind(ring, set(ids), MOST if word else len(ring))
        for target, count in zip(ring, counts, strict=True):
            tries[target] += count
    return tries


def _behind(ring: Sequence[str], ids: Collection[str], most: int) -> list[int]:
    """For each place of the ring how many of ``ids`` stand in the ``most`` places before it, itself
    left out."""
    most = min(most, len(ring) - 1)
    twice = list(accumulate((i in ids for i in (*ring, *ring)), initial=0))
    return [twice[at] - twice[at - most] for at in range(len(ring), 2 * len(ring))]
