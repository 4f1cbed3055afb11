"""Who on this host still calls members by their real addresses: read from the kernel, and kept on
disk in ``leftovers.json``.

Must never do: keep the kernel from being put right, or overwrite a file of a newer version.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from neti import durable, files, log
from neti.agent.core import Core
from neti.agent.preview import seen_here, whose
from neti.agent.record_file import put_newer_aside
from neti.agent.shadow_log import ELEMENTS_A_SECOND
from neti.clock import SteadyClock
from neti.control.server import Request
from neti.dataplane.reconciler import Reconciler
from neti.errors import DataplaneError
from neti.fleet.former import FormerAddresses
from neti.host.cgroups import ControlGroups
from neti.model import IPAddress, Member
from neti.model.document import plain
from neti.model.settings import Settings
from neti.monitoring.leftovers import Leftover
from neti.monitoring.leftovers import Leftovers as Shown
from neti.registry.detail import MAX_LEFT, Left
from neti.ruleset.policy_leftover import MISSED
from neti.stage.leftovers import Caller, Leftovers, Row, Whose, restored
from neti.stage.shadow import address_of, port_name
from neti.state.loaded import StateError
from neti.state.records import FORMAT, is_newer

FILE: Final = "leftovers.json"
_AT_MOST: Final = 8 << 20
_WRITE_EVERY: Final = 60.0
_EVERY: Final = 10.0  # seconds from one look to the next, at least

_MOST_NOBODYS: Final = 16_384


class LeftoverLog:
    """Not thread-safe: the agent's loop owns it. ``fault``: why the last look failed, or None.
    ``faults``: what could not be read from disk. ``missed``: connections for which the kernel had
    no room."""

    def __init__(
        self,
        folder: Path,
        machine: str,
        reconciler: Reconciler,
        steady: SteadyClock,
        *,
        boot: str,
        whose: Whose,
    ) -> None:
        self._path = folder / FILE
        self._machine = machine
        self._boot = boot
        self._reconciler = reconciler
        self.steady = steady
        self._whose = whose
        self._groups = ControlGroups()
        self.fault: str | None = None
        self.missed = 0
        self._elements = 0
        self._told: tuple[tuple[Left, ...], int] | None = None  # since the last look
        self.account, self.faults = read(folder, machine, steady, boot)
        for sentence in self.faults:
            log.warning("state_fault", what=sentence)
        self._written_at = steady.now()
        reconciler.on_emptying(self._last_look, self._emptied)

    def sample(self) -> None:
        """Merge what the kernel holds now."""
        try:
            calls = self._reconciler.leftovers()
            self.missed = self._reconciler.counters().get(MISSED, 0)
        except DataplaneError as error:
            if self.fault is None:
                log.warning("leftovers_not_read", what=str(error))
            self.fault = str(error)
            return
        self.fault = None
        self._elements, self._told = len(calls), None
        self.account.take(calls, self.steady.now(), whose=self._whose, named=self._groups.named)

    @property
    def pause(self) -> float:
        """Seconds until the next look is due."""
        return max(_EVERY, self._elements / ELEMENTS_A_SECOND)

    def latest(self) -> tuple[tuple[Left, ...], int]:
        """Of each member and port that is called from here, the latest first: as many as a document
        has room for, and how many there are besides. Between two looks it costs nothing."""
        if self._told is not None:
            return self._told
        found: dict[tuple[str, str], tuple[int, float]] = {}
        for caller, row in self.account.rows.items():
            key = caller.member, port_name((caller.protocol, caller.port))
            calls, last = found.get(key, (0, row.last))
            found[key] = calls + row.calls, max(last, row.last)
        ranked = sorted(found.items(), key=lambda one: (-one[1][1], one[0]))
        told = tuple(
            Left(to=to, port=port, calls=calls, last=int(self.steady.shown(last)))
            for (to, port), (calls, last) in ranked[:MAX_LEFT]
        )
        self._told = told, len(ranked) - len(told)
        return self._told

    def since(self) -> int:
        """From when on it is recorded, Unix seconds."""
        return int(self.steady.shown(self.account.since))

    def tick(self) -> None:
        """A look, and a write when one is due. Raises StateError."""
        self.sample()
        since = self.steady.now() - self._written_at
        if not 0 <= since < _WRITE_EVERY:
            self.write()

    def stop(self) -> None:
        """The last look, on disk. Raises StateError."""
        self.sample()
        self.write()

    def write(self) -> None:
        """All of it, if anything changed. Raises StateError."""
        if not self.account.changed:
            return
        self._written_at = self.steady.now()
        head = {"machine": self._machine, "format": FORMAT, "boot": self._boot}
        try:
            put_newer_aside(self._path)
            written = durable.line({**head, **self.account.snapshot()})
            durable.replace(self._path, written, 0o640)
        except OSError as error:
            self.account.changed = True
            raise StateError(f"{self._path}: cannot be written: {error.strerror}") from error

    def _last_look(self) -> None:
        """The sets are about to go, and nothing may prevent that."""
        try:
            self.stop()
        except StateError as error:
            log.warning("leftovers_not_written", what=str(error))

    def _emptied(self) -> None:
        self.account.emptied()


def read(
    folder: Path, machine: str, steady: SteadyClock, boot: str = ""
) -> tuple[Leftovers, list[str]]:
    """What is on disk, its times as the steady clock counts now; and what could not be used. The
    kernel of another ``boot`` counts from zero."""
    path, anew = folder / FILE, "the record of leftovers begins anew"
    account = Leftovers(steady.now())
    try:
        document = durable.checked(files.read(path, _AT_MOST))
        if document.get("machine") != machine:
            return account, [f"{path}: was written on another machine and is not used; {anew}"]
        if is_newer(document.get("format", FORMAT)):
            return account, [
                f"{path}: written by another version of Neti: not used, and kept; {anew}"
            ]
        held = restored(document)
    except FileNotFoundError:
        return account, []
    except OSError as error:
        return account, [f"{path}: cannot be read: {error.strerror}; {anew}"]
    except ValueError:
        return account, [f"{path}: is torn or edited; {anew}"]
    if document.get("boot") != boot:
        held.emptied()
    held.move(steady.shift(held.latest()))
    return held, []


def shown(
    account: Leftovers,
    steady: SteadyClock,
    overlay_of: Callable[[str], str | None],
    *,
    agent: bool,
    missed: int = 0,
    faults: tuple[str, ...] = (),
) -> Shown:
    """``overlay_of``: a member's present overlay address, by its id; None: it is none now."""

    def told(caller: Caller, row: Row) -> Leftover:
        return Leftover(
            member=caller.member,
            address=str(address_of(caller.dest)),
            protocol=caller.protocol,
            port=caller.port,
            overlay=overlay_of(caller.member),
            uid=None if caller.user < 0 else caller.user,
            group=caller.group,
            container=str(address_of(caller.container)) if caller.container else None,
            calls=row.calls,
            first=steady.shown(row.first),
            last=steady.shown(row.last),
        )

    ranked = sorted(account.rows.items(), key=lambda one: (-one[1].calls, -one[1].last, one[0]))
    return Shown(
        agent=agent,
        since=steady.shown(account.since),
        now=steady.shown(steady.now()),
        rows=tuple(told(caller, row) for caller, row in ranked),
        missed=missed,
        faults=faults,
    )


class Owners:
    """Whose an address is. Not thread-safe: the loop's thread owns it. The fleet is looked through
    only for an address that was never asked for, or that somebody else got since."""

    def __init__(self, core: Core, former: FormerAddresses) -> None:
        self._core = core
        self._former = former
        self._settings: Settings | None = None

    def __call__(self, wanted: set[bytes], thought: Mapping[bytes, str]) -> dict[bytes, str]:
        core, nobodys = self._core, self._former.nobodys
        if core.settings is not self._settings or len(nobodys) > _MOST_NOBODYS:
            self._settings = core.settings  # other sites may be reached otherwise
            nobodys.clear()
        seen, members = seen_here(core.settings, core.host.site), core.members.fleet.members
        likely = {thought[one] for one in wanted if thought.get(one) in members}
        found = self._among([members[one] for one in likely], wanted, seen)
        if left := wanted - found.keys() - nobodys:
            found |= self._among(members.values(), left, seen)
        for packed in wanted - found.keys():
            if (had := self._former.of(packed, seen)) is not None:
                found[packed] = had.member.id
            else:
                nobodys.add(packed)
        return found

    def _among(
        self, members: Iterable[Member], wanted: set[bytes], seen: Callable[[Member], bool]
    ) -> dict[bytes, str]:
        elements = self._core.members.elements

        def admitted(address: IPAddress) -> bool:
            return elements.wants("peers4" if address.version == 4 else "peers6", str(address))

        now = whose(members, self._core.host.id, wanted, admitted, seen)
        return {packed: held.id for packed, held in now.items()}


def answer(core: Core, log_: LeftoverLog, request: Request) -> None:
    """The control command."""
    members = core.members.fleet.members

    def overlay_of(host_id: str) -> str | None:
        return str(members[host_id].overlay) if host_id in members else None

    log_.sample()
    fault = (f"the kernel's record cannot be read: {log_.fault}",) if log_.fault else ()
    found = shown(
        log_.account,
        log_.steady,
        overlay_of,
        agent=True,
        missed=log_.missed,
        faults=(*fault, *log_.faults),
    )
    to = str(request.arguments.get("to", ""))
    request.succeed(plain(replace(found, unknown=bool(to) and not _is_known(core, found, to))))


def _is_known(core: Core, found: Shown, to: str) -> bool:
    """Whether a member, or one that was called from here, has this id or address."""
    rows = {text for row in found.rows for text in (row.member, row.address, row.overlay)}
    if to in rows or to in core.members.fleet.members:
        return True
    with contextlib.suppress(ValueError):
        asked = ip_address(to)
        return any(
            asked in (member.private, member.public, member.overlay, *member.more)
            for member in core.members.fleet.members.values()
        )
    return False
