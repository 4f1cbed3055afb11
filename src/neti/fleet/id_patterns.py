"""Which of many patterns of ids an id fits. Pure.

They are looked for by how they begin and end, so what an id costs does not grow with the number of
patterns that have one ``*`` and no ``?``. Commands bound how many others there are
(``neti.registry.groups``).

Must never do: take long over a pattern, whatever it and the id are.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_STARS: Final = re.compile(r"\*+")
_WILD: Final = re.compile(r"[*?]")


class IdPatterns(Generic[T]):
    """``patterns``: with what each stands for. Immutable."""

    def __init__(self, patterns: Mapping[str, T]) -> None:
        # By what comes before the star, and what comes behind it.
        self._ends: dict[str, dict[str, list[T]]] = {}
        # All others, by what comes before the first wildcard, and by what they stand for.
        others: dict[str, dict[int, tuple[T, list[str]]]] = {}
        for pattern, meant in patterns.items():
            head, *more = _STARS.split(pattern)
            if len(more) == 1 and "?" not in pattern:
                self._ends.setdefault(head, {}).setdefault(more[0], []).append(meant)
            else:
                held = others.setdefault(_WILD.split(pattern, maxsplit=1)[0], {})
                held.setdefault(id(meant), (meant, []))[1].append(pattern)
        self._others = {
            head: [(expression(each), meant) for meant, each in held.values()]
            for head, held in others.items()
        }
        self._tails = {head: _lengths(tails) for head, tails in self._ends.items()}
        self._heads = _lengths({*self._ends, *self._others})

    def of(self, host_id: str) -> Iterator[T]:
        """What the patterns stand for that the id fits; the same may come more than once."""
        size = len(host_id)
        for begins in self._heads:
            if begins > size:
                return
            head = host_id[:begins]
            if (tails := self._ends.get(head)) is not None:
                for ends in self._tails[head]:
                    if begins + ends > size:
                        break
                    yield from tails.get(host_id[size - ends :], ())
            for like, meant in self._others.get(head, ()):
                if like.fullmatch(host_id):
                    yield meant


def _lengths(texts: Iterable[str]) -> tuple[int, ...]:
    return tuple(sorted({len(text) for text in texts}))


def matching(patterns: Iterable[str]) -> re.Pattern[str] | None:
    """For ``fullmatch``: an id that fits one of them. None: there is none."""
    every = list(dict.fromkeys(patterns))
    return expression(every) if every else None


def expression(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(_expression, patterns)), re.ASCII)


def _expression(pattern: str) -> str:
    """What a star in the middle takes is the least that will do, and is never tried again:
    otherwise ``*a*a*a*b`` would take as many steps as there are ways to fit it."""
    first, *more = (re.escape(part).replace(r"\?", ".") for part in _STARS.split(pattern))
    if not more:
        return first
    *middle, last = more
    return "".join((first, *(f"(?>.*?{part})" for part in middle), ".*", last))
