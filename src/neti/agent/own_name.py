"""By which name this host registers: the one that it has, or else the next generation.

Whoever foresees a host's names can make them first. So the next one is drawn, out of more with each
name that was taken. Must never do: ask again for a name that this host cannot have.
"""

from ipaddress import IPv4Address
from typing import Final

from neti import log
from neti.agent import own_entry
from neti.agent.core import Core
from neti.model import Member

# Out of how many generations the next one is drawn; each name that is taken makes it more.
_SPREAD: Final = 6
_WIDEST: Final = 6**5
_MANY: Final = 4  # names that were taken, after which somebody means to keep this host out
_LONGEST_PAUSE: Final = 30  # seconds until the next attempt after many names that were taken


class OwnName:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._barred: set[str] = set()  # since this host registered last

    def bar(self, name: str) -> None:
        """Not by this name: it was there already, or says what is not so any more."""
        self._barred.add(name)

    def registered(self) -> None:
        self._barred.clear()

    def member(self, overlay: IPv4Address, present: str | None) -> Member:
        """This host as it registers next. ``present``: its entry, if it is registered. Raises
        EntryError when the name is too long."""
        core, fleet = self._core, self._core.members.fleet
        said, departed = fleet.names_of(core.host.id), fleet.departed(core.host.id)
        strict = fleet.records == "strict"
        if strict:  # what others say of this host drives up nothing
            said, departed = (), None
        former = core.disk.itself.entry
        if present is None and former is not None and not fleet.stands(former):
            departed = max(-1 if departed is None else departed, own_entry.generation_of(former))
        return own_entry.own_member(
            core.host,
            overlay,
            (former, *said, *self._barred),
            ours={former, *self._barred} if former is not None else self._barred,
            departed=departed,
            taken=self._barred,
            skip=core.out.chance(min(_SPREAD ** (1 + len(self._barred)), _WIDEST)),
            # By generation peers decide only where they are not strict.
            anywhere=core.out.chance if len(self._barred) >= _MANY and strict else None,
        )

    def taken(self, name: str) -> None:
        """It is there, by somebody else or an earlier run: the next one is harder to hit."""
        log.info("name_taken", entry=name)
        self.bar(name)
        if len(self._barred) > _MANY:
            self._core.problems.set(
                "registration",
                f"this host is not registered: {len(self._barred)} names that it tried are taken, "
                "so somebody makes its names before it does. It goes on with others\n"
                "→ an operator runs 'neti registry check', and 'neti registry remove' for them",
            )
        self._core.soon("register", min(len(self._barred) - 1, _LONGEST_PAUSE))
