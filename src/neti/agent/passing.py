"""The agent's part in gateways: this host's rules, forwarding where it is one, and what is wrong.

Who goes through which gateway is an element, and decided with the members (``Membership``).

Must never do: let the kernel forward before the table is there that says what, or while Neti is
down.
"""

import contextlib
from dataclasses import replace
from typing import Final

from neti import log
from neti.agent.core import Core
from neti.agent.probing import Probing
from neti.dataplane.boot_note import NoteTorn
from neti.dataplane.forwarding import Forwarding, NotNoted
from neti.errors import DataplaneError
from neti.ruleset.gateway_part import GatewayPart
from neti.ruleset.surroundings import GatewayEnd, Surroundings
from neti.words import some

_REST: Final = 19  # times as long as the reckoning took
_CUT_OFF: Final = (
    "hosts there without a public address of their own are cut off from other sites, unless a "
    "lost one still passes on"
)
_OR_THIS: Final = "; or this host alone is, as no gateway of another site answers it"
_OR_OTHERS: Final = (
    "; or other sites' gateways are gone, as one that none of them answers does not answer either"
)


def _uplinks(end: GatewayEnd | None) -> tuple[str, ...]:
    return end.uplinks or () if end is not None else ()


class Passing:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._uplinks: tuple[str, ...] = ()
        self._of: GatewayPart | None = None
        self._rests_until = 0.0
        self._told: tuple[object, ...] = ()
        self._forwarding: tuple[str, ...] = ()  # as it was last left
        self._end: GatewayEnd | None = None  # what the table's rules are to be for
        self._loaded: GatewayEnd | None = None  # what they are for
        self._idle = False  # nothing was switched on here, and nothing is wanted
        self.probing = Probing(core)

    def prepare(self, around: Surroundings) -> Surroundings:
        """What the rules have to know of this host's part. Raises DataplaneError."""
        self._uplinks = around.uplinks
        self._renew()
        self._end = self._wished()
        if self._end != self._loaded:
            self.forward()  # what is not to be passed on any more, before its rules go
        return replace(around, gateway=self._end)

    def follow(self) -> None:
        """Members as they are now. Another part in the rules takes a full look."""
        core = self._core
        gateways = core.members.gateways
        if not gateways.used and gateways is self._of:
            return
        self._of = gateways
        self._renew()
        told = (gateways, gateways.version, core.members.known)
        if core.down.asked or told == self._told:
            return
        self._told = told
        self._name_what_is_wrong()
        try:
            wished = self._wished()
        except DataplaneError:
            return  # a full look says so
        if wished != self._end:
            self._end = wished
            core.soon("resync")

    def _renew(self) -> None:
        """At once where a gateway is gone or this host is another; otherwise not for more than a
        twentieth of the time: in a large fleet it takes long, and somebody always comes or goes."""
        core, members = self._core, self._core.members
        waits = core.now() < self._rests_until and members.gateways.version > 0
        if waits and not members.gateways_are_due():
            if members.gateways.noted:
                core.timers.at("gateways", self._rests_until)
            return
        started = core.now()
        members.pass_on()
        self.probing.follow()
        members.pass_on()  # again, if that tells who is alive
        self._rests_until = core.now() + (core.now() - started) * _REST

    def _wished(self) -> GatewayEnd | None:
        try:
            return self._core.members.gateways.end(self._uplinks)
        except ValueError as error:
            raise DataplaneError(f"this host cannot be a gateway: {error}") from error

    # --- forwarding ---

    def loaded(self) -> str:
        """The kernel has the whole table, with the rules of ``prepare``. Returns as ``forward``."""
        self._loaded = self._end
        return self.forward()

    def unloaded(self) -> None:
        """Those rules are not in the kernel any more, and it refuses to take them again."""
        self._loaded = None
        self.forward()

    def forward(self) -> str:
        """Only what the table has rules for, and is wanted. Returns what was not as it was left;
        empty: all was."""
        core, door = self._core, self._core.out.forwarding
        if door is None or core.down.now:
            return ""
        loaded = () if core.down.asked else _uplinks(self._loaded)
        wanted = tuple(one for one in loaded if one in _uplinks(self._end))
        if not wanted and self._idle:
            return ""
        before, self._forwarding = self._forwarding, wanted
        anew = door.missing(wanted)
        said = self._switch(door, wanted, before)
        if anew:
            self._only_by_rules()
        return said

    def _only_by_rules(self) -> None:
        """This process may have stood still right before it switched forwarding on, while ``neti
        down`` or another program took the rules out."""
        with contextlib.suppress(DataplaneError):
            if not self._core.out.reconciler.untouched():
                self.unloaded()

    def _switch(self, door: Forwarding, wanted: tuple[str, ...], before: tuple[str, ...]) -> str:
        core = self._core
        try:
            switched = door.follow(wanted)
        except NotNoted as error:
            self._idle = False
            core.problems.clear("forwarding")
            core.problems.set("forwarding_not_noted", str(error))
            log.warning("forwarding_not_noted", what=str(error))
            return ""
        except DataplaneError as error:
            if isinstance(error, NoteTorn) and not wanted:
                # It may forward still, and there are no rules any more that say what.
                core.problems.clear("forwarding")
                core.problems.set("forwarding_not_noted", str(error))
            elif wanted or before:
                core.problems.set("forwarding", f"this host cannot be a gateway as it is: {error}")
            log.error("forwarding", what=str(error))
            return ""
        self._idle = not wanted
        core.problems.clear("forwarding")
        core.problems.clear("forwarding_not_noted")
        if not switched:
            return ""
        log.info("forwarding", on=some(switched))
        return f"forwarding of {some(switched)}" if before == wanted else ""

    def take_out(self) -> None:
        """``neti down``. Raises DataplaneError."""
        self._forwarding, self._loaded, self._idle = (), None, False
        if self._core.out.forwarding is not None:
            self._core.out.forwarding.put_back()
            self._core.problems.clear("forwarding_not_noted")

    # --- what is wrong ---

    def _name_what_is_wrong(self) -> None:
        core = self._core
        members, part = core.members.fleet.members, core.members.gateways
        without = part.without(members) if core.members.known else {}
        if not without and "gateways_gone" not in core.problems:
            return
        core.problems.clear("gateways_gone")
        for site, faults in without.items():
            each = ", ".join(f"{one} {why}" for one, why in faults.items())
            rest = _OR_THIS if part.unanswered else ""
            if site == core.host.site and part.own_gateway() is not None:
                rest = _OR_OTHERS
            core.problems.set(
                "gateways_gone",
                f"site {site} has no gateway that is known to work ({each}): {_CUT_OFF}{rest}",
                subject=site,
            )
