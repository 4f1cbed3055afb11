"""``neti open``: a port of this host is open to somebody for a time, and the kernel ends that.

The kernel has it before anybody is told so. What is closed goes from the disk first: a restart in
between must not open it again.

Must never do: open anything without an end, or to a source that nobody named.
"""

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from typing import Any, Final

from neti import log
from neti.agent.core import Core
from neti.agent.explaining import Asked
from neti.agent.kept_out import peers_at
from neti.agent.kernel import Kernel
from neti.agent.named import Named, address_of, addresses_of, is_own
from neti.control.server import Request
from neti.errors import NetiError
from neti.fleet.attendance import moment
from neti.model import Member
from neti.model.document import plain
from neti.model.openings import MOST, Opening
from neti.model.settings import IPNetwork
from neti.monitoring.opened import Answer, Opened
from neti.stage.stages import IS_DOWN, Stage
from neti.text import printable
from neti.words import some

# Seconds between two looks whether one has ended. The kernel's clock stands still while the machine
# sleeps, and this one does not.
_LOOK_AT_MOST: Final = 10.0
_NOTES: Final = 10  # at most, of those for whom the opening changes nothing
_IN_SHADOW: Final = (
    "nobody is kept out of this host today, because it is in shadow: this counts once it is "
    "enforced, as far as there is time left by then"
)


class OpeningPorts:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core, kernel: Kernel) -> None:
        self._core = core
        self._kernel = kernel

    # --- commands ---

    def open(self, request: Request) -> None:
        core, before = self._core, self._core.openings.decided
        if core.down.now:
            request.fail(f"nothing is opened: {IS_DOWN}")
            return
        new = tuple(self._new(request))
        after = before.with_new(new)
        if after.size > MOST:
            request.fail(
                f"that would be {after.size} pairs of a source and a port, and at most {MOST} can "
                "be open for a time\n→ fewer ports, a network in place of its addresses, or "
                "open_ports in neti.yml"
            )
            return
        core.openings.decide(after)
        refused = self._kernel.resync("neti open")
        if refused is not None:
            core.openings.decide(before)
            self._kernel.resync("not opened")
            request.fail(f"nothing was opened: {refused}")
            return
        unsaved = core.openings.keep()
        self._log("opened", new)
        core.soon("openings")
        request.succeed(self._answer(new, self._notes(new), unsaved))

    def close(self, request: Request) -> None:
        core, said = self._core, request.arguments
        ids, sources = self._meant(said.get("sources") or ())
        gone = [
            one
            for one in core.openings.held
            if _has_port(one, said)
            and (not said.get("sources") or one.member in ids or one.source in sources)
        ]
        if not gone:
            request.fail(f"nothing like that is open for a time{self._near(said)}")
            return
        core.openings.decide(core.openings.decided.without(gone))
        unsaved = core.openings.keep()
        refused = self._kernel.resync("neti open --close")
        self._log("closed", gone)
        if refused is not None:
            request.fail(
                f"not closed: {refused}\n→ the agent tries again by itself; 'neti status' says "
                "what is wrong. Whatever happens, the kernel ends it by "
                f"{moment(core.steady.shown(max(one.until for one in gone)))}"
            )
            return
        request.succeed(self._answer(gone, self._still(gone), unsaved))

    def opened(self, request: Request) -> None:
        request.succeed(self._answer(self._core.openings.held, (), None))

    def _answer(
        self, which: Iterable[Opening], notes: Iterable[str], unsaved: str | None
    ) -> dict[str, Any]:
        core = self._core
        answer: dict[str, Any] = plain(
            Answer(
                stage=core.stage.word,
                opened=tuple(told(core, which)),
                notes=tuple(notes),
                unsaved=unsaved,
            )
        )
        return answer

    def _log(self, event: str, which: Iterable[Opening]) -> None:
        for one in which:
            log.warning(event, port=one.port, source=str(one.source), seconds=one.seconds)

    # --- what is meant ---

    def _new(self, request: Request) -> Iterator[Opening]:
        core, said = self._core, request.arguments
        first, last = int(said.get("first", 0)), int(said.get("last", 0))
        named = list(dict.fromkeys(said.get("sources") or ()))
        if not (0 < first <= last and named and "proto" in said and "seconds" in said):
            raise NetiError("a port, a source and a time are needed: nothing is opened without end")
        who = Named(core)
        for name in named:
            for source, member in self._sources(who, name):
                yield Opening(
                    source=source,
                    proto=said["proto"],
                    first=first,
                    last=last,
                    until=core.since() + int(said["seconds"]),
                    seconds=int(said["seconds"]),
                    at=core.wall(),
                    by=request.caller,
                    member=member,
                )

    def _sources(self, who: Named, name: str) -> list[tuple[IPNetwork, str]]:
        """Networks, and the id of the member that each was found by. Raises NetiError."""
        if "/" in name:
            return [(_usable(name), "")]
        if is_own(self._core, name):
            raise NetiError(f"{printable(name)} is this host itself, which is never kept out")
        if (group := who.group(name)) is not None:
            others = (one for one in group if one.id != self._core.host.id)
            found = [pair for one in others for pair in self._by_member(one)]
            if not found:
                raise NetiError(
                    f"nobody who could come to this host is in group {name}\n→ neti group list"
                )
            return found
        if (member := who.member(name)) is None:
            return [(_usable(str(one)), "") for one in who.addresses(name)]
        if not (found := self._by_member(member)):
            raise NetiError(
                f"member {member.id} has no address by which it could come to this host\n"
                "→ 'neti verify' says by which road members are reached"
            )
        return found

    def _by_member(self, member: Member) -> list[tuple[IPNetwork, str]]:
        return [(_usable(str(one)), member.id) for one in addresses_of(self._core, member)]

    def _meant(self, names: Iterable[str]) -> tuple[set[str], set[IPNetwork]]:
        """Members and sources to whom something may be open. Raises NetiError for a name that is
        both a member and a group."""
        who = Named(self._core)
        ids, sources = set[str](), set[IPNetwork]()
        for name in names:
            if "/" in name or address_of(name) is not None:
                sources.update(_networks(name))
            else:
                ids.add(name)  # also of a member that is gone
            member, group = who.member(name), who.group(name)
            for one in group if group is not None else (member,) if member is not None else ():
                ids.add(one.id)
                sources.update(source for source, _ in self._by_member(one))
        return ids, sources

    def _still(self, gone: Iterable[Opening]) -> Iterator[str]:
        """What lets in some of those to whom it was closed. Each opening ends by itself."""
        held = self._core.openings.held
        left = {f"{one.port} to {one.to}" for one in held if any(map(one.overlaps, gone))}
        if left:
            yield f"STILL OPEN, by other openings that let some of the same in: {some(left, 5)}"

    def _near(self, said: dict[str, Any]) -> str:
        """What else is open, for whoever meant some of it."""
        held = {f"{one.port} to {one.to}" for one in self._core.openings.held}
        return f"\n→ what is: {some(held, 5)}" if held else ""

    def _notes(self, new: tuple[Opening, ...]) -> Iterator[str]:
        core = self._core
        if core.stage.now is Stage.SHADOW:
            yield _IN_SHADOW
        alone = [one for one in new if one.source.prefixlen == one.source.max_prefixlen]
        # One look at the fleet for all of them: this is the agent's loop.
        peers = peers_at(core, {one.source.network_address.packed for one in alone})
        said: dict[tuple[bool, str], list[str]] = {}
        for one in alone:
            address = one.source.network_address
            found = Asked(core, one.proto, one.first, peers).judged(address)
            if found.lasts or not found.admitted:
                by = found.by.removesuffix(f", which holds {address}")
                said.setdefault((found.lasts, by), []).append(one.to)
        port = f"{new[0].first}/{new[0].proto}"
        for (lasts, by), whom in list(said.items())[:_NOTES]:
            verb = ("gets", "does NOT get") if len(whom) == 1 else ("get", "do NOT get")
            how = f"{verb[0]} in to {port} without this too"
            yield f"{some(whom, 5)} {how if lasts else f'{verb[1]} in to {port} even so'}: {by}"
        if len(said) > _NOTES:
            rest = sum(map(len, list(said.values())[_NOTES:]))
            yield f"something like this is so of {rest} more: 'neti explain' says what"

    # --- time ---

    def begin(self) -> None:
        """Before the kernel is put right for the first time: what has ended while no agent ran."""
        core = self._core
        over = core.openings.decided.over(core.since())
        core.openings.decide(core.openings.decided.without(over))
        self._log("opening_ended", over)
        if over:
            core.openings.keep()

    def look(self) -> None:
        """The timer "openings"."""
        core = self._core
        before = len(core.openings.held)
        self.begin()
        if len(core.openings.held) != before:
            self._kernel.resync("what was open for a time has ended")
        core.openings.keep_time()
        if held := core.openings.held:
            left = min(one.until for one in held) - core.since()
            core.soon("openings", min(max(0.0, left), _LOOK_AT_MOST))


def told(core: Core, which: Iterable[Opening]) -> Iterator[Opened]:
    """Those that end first, first."""
    now = core.since()
    for one in sorted(which, key=lambda held: (held.until, held.port, str(held.source))):
        yield Opened(
            port=one.port,
            source=str(one.source),
            member=one.member,
            until=core.steady.shown(one.until),
            seconds_left=round(max(0.0, one.until - now), 1),
            at=one.at,
            by=one.by,
        )


def unrecorded(core: Core) -> Iterator[str]:
    """For the preview: what is let in for a time leaves no trace in its record."""
    if held := core.openings.held:
        yield (
            f"open for a time, so who comes is not recorded: {some({one.port for one in held})} "
            "('neti open' shows to whom, and until when)"
        )


def _usable(text: str) -> IPNetwork:
    """Raises NetiError in words."""
    try:
        found = ip_network(text)
    except ValueError:
        found = None
    if found is None or "%" in text:
        raise NetiError(
            f"{printable(text)!r} is no network: expected a CIDR without host bits set, such as "
            "192.0.2.0/24 or 2001:db8::/32"
        )
    mapped = found.version == 6 and found.network_address.ipv4_mapped is not None
    if mapped or found.is_multicast or found.is_loopback:
        raise NetiError(f"nobody comes to this host from {found}: name where packets come from")
    return found


def _has_port(one: Opening, said: dict[str, Any]) -> bool:
    """No port said: any."""
    if "first" not in said:
        return True
    span = said["first"], said.get("last", said["first"]), said.get("proto", "tcp")
    return (one.first, one.last, one.proto) == span


def _networks(name: str) -> list[IPNetwork]:
    try:
        return [ip_network(name)]
    except ValueError:
        return []
