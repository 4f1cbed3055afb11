"""``neti registry strict``: what stands in the way of it, and the operators' word to all agents.

Must never do: say ``on`` while somebody would vanish by it, or ``off`` while somebody relies on it,
unless that was asked for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from neti.fleet.unvouched import Unvouched, unvouched
from neti.model.settings import Settings
from neti.oneshot.documents import told_by
from neti.oneshot.registered import believed
from neti.registry import OperatorRegistry
from neti.registry.detail import REQUIRING
from neti.registry.strict import Strict, decode, encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """``said``: the operators' word (None: never, or none that this version knows); ``members``:
    how many hosts are believed today; ``unvouched``: those of them that would not be in strict
    mode; ``requiring``: those that say that they refuse, to some site, what is not encrypted, for
    good or on trial: a key that anybody may replace makes that worth nothing."""

    said: Strict | None
    members: int
    unvouched: tuple[Unvouched, ...]
    requiring: tuple[str, ...] = ()

    @property
    def on(self) -> bool:
        return self.said is not None and self.said.on


def look(settings: Settings, registry: OperatorRegistry) -> Standing:
    """Reads, changes nothing. Entries are read before records, and those that are not vouched for
    twice: a host that registers meanwhile is not in the way."""
    names = believed(settings, registry)
    found = _unvouched(registry, names)
    if found:
        found = _unvouched(registry, {one.id: one.name for one in found})
    return Standing(
        said=decode(registry.setting("strict")),
        members=len(names),
        unvouched=tuple(found),
        requiring=tuple(sorted(_requiring(registry, names))),
    )


def say(registry: OperatorRegistry, *, on: bool, clock: Callable[[], float]) -> Strict:
    word = encode(on=on, now=clock())
    registry.change_setting("strict", word)
    said = decode(word)
    assert said is not None
    return said


def _requiring(registry: OperatorRegistry, names: dict[str, str]) -> Iterator[str]:
    for host_id, told in told_by(registry, names).by.items():
        if told.encryption in REQUIRING:
            yield host_id


def _unvouched(registry: OperatorRegistry, names: dict[str, str]) -> list[Unvouched]:
    made = registry.made(names.values())
    return unvouched(names, registry.records(names), made)
