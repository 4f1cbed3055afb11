"""This host in the registry: its lease, its entry, its word when it leaves.

Everything that waits for the registry goes through the worker, and the result comes back as the end
of a job. Must never do: register under an address that is not this id's lease.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Final

from neti import __version__, log
from neti.agent.core import Core
from neti.agent.describing import Describing
from neti.agent.endings import Endings
from neti.agent.entry_key import EntryKey
from neti.agent.impostors import Impostors
from neti.agent.own_name import OwnName
from neti.agent.rotating import Rotating
from neti.agent.worker import Job
from neti.control.server import Request
from neti.errors import IdentityHeld, KeyTaken, NameTaken, NetiError, OtherOwner
from neti.model import Member, entry
from neti.model.entry import MAX_NAME_BYTES
from neti.registry import AgentRegistry, HostRead
from neti.text import printable

_LATER: Final = "→ run 'neti leave' again once 'neti status' says that the registry is in step"
_NOT_REGISTERED: Final = (
    "this host is not registered now, so there is nothing to leave; its agent goes on, and "
    "registers it as soon as it can\n→ 'systemctl stop neti' keeps it out"
)
_RETIRED: Final = (
    "an operator took this host out of the fleet, so it is not registered, and its agent does not "
    "register it\n→ 'systemctl stop neti' stops the agent"
)
# What a registration ends, so what it writes of this host does not name it.
_SOLVED: Final = frozenset({"registration", "clone"})
_OWN_SESSIONS: Final = 2  # time-outs after which the holder is no earlier run of this host


@dataclass(frozen=True, slots=True)
class Registered:
    """Under which name; ``says``: whether what this host says of itself stands beside it."""

    name: str
    says: bool


class Registration:
    """Not thread-safe: the loop's thread owns it. ``on_left``: the host has left the fleet."""

    def __init__(self, core: Core, on_left: Callable[[], None]) -> None:
        self._core = core
        self._on_left = on_left
        self.entry: str | None = None  # the name under which this host is registered now
        self.leaving: Request | None = None
        self._underway = 0  # jobs "lease" and "register" that have not ended
        self._once_more = False  # register again when that is over
        self._move_said = False  # an operator moved a lease, to this host or away from it
        self._former_overlay: IPv4Address | None = None  # of this run, if it has changed
        self._retired: str | None = None  # by operators, in words: this host leaves and stays out
        self._going = False  # because of that
        self._held_since: float | None = None  # somebody else holds this id since then
        self._replacing: str | None = None  # our own former name, which is to vanish
        self._asked: str | None = None  # the name that we asked to register last
        self._name = OwnName(core)
        self._endings = Endings()
        self.describing = Describing(core, lambda: self.entry is not None)
        self.impostors = Impostors(core, lambda name: name in (self.entry, self._asked))
        self.key = EntryKey(
            core,
            Rotating(core, lambda: self.entry is not None and self.leaving is None),
            entry=lambda: self.entry,
            anew=self.impostors.answer,
        )

    # --- being there ---

    def register(self) -> None:
        core = self._core
        if not core.in_step.fresh or self.leaving:
            return
        if self._retired is not None:
            self._go()
            return
        if wait := self._endings.wait(core.now()):
            core.soon("register", wait)
            return
        if self._underway:
            # Two at a time would take each other's entry for another host's, and leave one behind.
            self._once_more = True
            return
        registry, host_id, subnet = core.out.registry, core.host.id, core.settings.overlay_subnet
        overlay = core.members.overlay
        if overlay is None:
            self._submit("lease", lambda: registry.acquire(host_id, subnet))
            return
        key = core.own_key.text
        if (stale := self.key.another_than(key)) is not None:
            self._name.bar(stale)  # peers hear of another key only by a new entry
        try:
            member = self._name.member(overlay, self.entry)
            name = entry.encode(member)
            data = entry.encode_data(member.more)
        except NetiError as error:
            core.problems.set("registration", str(error))
            log.error("cannot_register", what=str(error))
            return
        replaces = self._replacing = self._replaced(name)
        self._asked = name
        self.key.asked(name, key)
        detail, report = self.describing.documents(solved=_SOLVED)

        def job() -> IPv4Address | Registered:
            # The lease is looked up again: it may have been released while this host was away, or
            # the registry may have forgotten it.
            held = registry.acquire(host_id, subnet, prefer=overlay)
            if held != overlay:
                return held
            says = registry.register(
                host_id=host_id,
                name=name,
                data=data,
                detail=detail,
                report=report,
                replaces=replaces,
                overlay=overlay,
                machine=core.out.running_here,
                key=key,
            )
            return Registered(name, says)

        self._submit("register", job)

    def _submit(self, name: str, job: Job) -> None:
        self._underway += 1
        self._core.out.worker.submit(name, job)

    def job_ended(self) -> None:
        """A job "lease" or "register" is over, whatever became of it."""
        self._underway -= 1
        if self._once_more and not self._underway:
            self._once_more = False
            self._core.soon("register")
        if self._retired is not None and self.leaving is None:
            self._go()
        elif self.leaving is not None and not self._underway:
            self._say_goodbye()

    def _replaced(self, name: str) -> str | None:
        """An entry under another name that may belong to this session; the registry checks whether
        it does. Not only the last one: a registry that was restored from a copy brings an older
        entry back, perhaps with this very session, and then it would never vanish by itself."""
        core = self._core
        if self.entry is not None and self.entry != name:
            return self.entry
        fleet = core.members.fleet
        others = dict.fromkeys((core.disk.itself.entry, *fleet.names_of(core.host.id)))
        return self.impostors.to_replace(
            [other for other in others if other and other != name and fleet.stands(other)]
        )

    def registered(self, result: Registered | IPv4Address) -> None:
        """The job "register" is done, or came upon another lease."""
        if isinstance(result, IPv4Address):
            self.lease_held(result)
            return
        name = result.name
        self._is_well()
        self._core.problems.clear("clone")
        self._held_since = None
        self._replacing = None
        self._name.registered()
        if self.entry != name:
            log.info("registered", entry=name, overlay=self._core.members.overlay)
        self.entry = name
        self.describing.written(stands=result.says)
        self.key.look()
        self._remember()
        self.impostors.look_soon()
        tagger, overlay = self._core.out.tagger, self._core.members.overlay
        if tagger is not None and overlay is not None:
            tagger.wanted(overlay, __version__)

    def lease_held(self, overlay: IPv4Address) -> None:
        """The job "lease" is done."""
        core, word = self._core, self._core.disk.itself.retired
        if word is not None and word.overlay == overlay:
            return  # asked for before an operator gave it to another host
        self._is_well()
        before = core.members.overlay
        if overlay != before:
            log.info("lease_held", overlay=overlay)
            core.members.hold_lease(overlay)
            if before is not None and not self._move_said:
                self._address_changed(before, overlay)
            self._move_said = False
        self._remember()
        core.soon("register")

    def _is_well(self) -> None:
        """A job that was under way when operators took this host out ends nothing of that."""
        if self._retired is None:
            self._core.problems.clear("registration")

    def _address_changed(self, before: IPv4Address, overlay: IPv4Address) -> None:
        """The address changed without an operator's word, by a registry that was restored from a
        copy. The problem remains until the agent is restarted, or the former address is this host's
        again."""
        former = self._former_overlay = self._former_overlay or before
        self._core.problems.clear("lease_changed")
        if overlay == former:
            self._former_overlay = None
            return
        log.warning("lease_changed", was=former, now=overlay)
        self._core.problems.set(
            "lease_changed",
            f"this host's overlay address was {former} and is {overlay} now: hosts that use "
            "the former one cannot reach it any more",
        )

    def _remember(self) -> None:
        core, itself = self._core, self._core.disk.itself
        overlay = str(core.members.overlay) if core.members.overlay else None
        core.disk.keep_self(replace(itself, overlay=overlay, entry=self.entry or itself.entry))

    def failed(self, error: NetiError) -> None:
        """The jobs "lease" and "register"."""
        core = self._core
        if isinstance(error, NameTaken) and self._asked is not None:
            self._name.taken(self._asked)
            return
        if isinstance(error, KeyTaken):
            self.key.taken(error)
            return
        pause = core.timers.retry("register", core.now())
        said = " ".join(str(error).splitlines())  # a next step has a line of its own elsewhere
        if core.problems.sentence("registration") != said:
            report = log.error if isinstance(error, IdentityHeld) else log.warning
            report("not_registered", what=said, retry_seconds=pause)
        self.key.rotating.failed(said)
        core.problems.set("registration", self._retired or said)
        if isinstance(error, IdentityHeld) and not isinstance(error, OtherOwner):
            self._somebody_is_this_host(said)

    def _somebody_is_this_host(self, said: str) -> None:
        """After some time the holder cannot be this host itself before a restart."""
        core = self._core
        self._held_since = self._held_since if self._held_since is not None else core.now()
        long = core.now() - self._held_since > _OWN_SESSIONS * core.settings.session_seconds
        if long or "clone" in core.problems:
            core.problems.set("clone", f"another machine is running as this host: {said}")

    def entry_vanished(self, name: str) -> None:
        self.impostors.vanished(name)
        leaves = self._going or self.leaving is not None
        if name == self.entry and name != self._replacing and not leaves:
            log.warning("own_entry_vanished", entry=name)
            self.entry = None
            self._core.soon("register")

    def record_read(self, read: HostRead) -> None:
        """A host's record. Where ours does not name our entry, no peer may believe it: register
        anew. So if it says another key."""
        core = self._core
        word = read.record.word if read.record is not None else ""
        if read.host_id != core.host.id or self.entry is None or self.leaving:
            return
        if read.record is not None and word == self.entry:
            self.key.read(read.record.key)
        elif word not in (self.entry, self._asked) and core.members.fleet.records != "off":
            log.warning("record_changed", entry=self.entry, says=printable(word, MAX_NAME_BYTES))
            self._name.bar(self.entry)
            self.impostors.answer()

    def name_appeared(self, name: str) -> None:
        """An operator's word about a lease, or an entry that speaks for this host and is not ours:
        after both, look the lease up and register again."""
        core = self._core
        moved = entry.parse_moved(name)
        if moved is None:
            self.impostors.appeared(name)
        elif moved.id == core.host.id or moved.overlay == core.members.overlay:
            log.warning("lease_moved", overlay=moved.overlay, to=moved.id)
            self._move_said = True
            self.impostors.answer()  # anybody can write the word, so at the same limited rate

    def session_taken(self) -> None:
        """A clone of this host, with its state, took over the session. Both would fight for ever,
        so this one starts over, and the registry tells it who has the id now."""
        self.entry = None
        log.error("session_taken", what="another machine runs with this host's id and state")
        self._core.problems.set(
            "clone",
            "another machine is running as this host: it has taken this host's registry session; "
            "stop one of them, or give it an id and a state folder of its own",
        )
        self.impostors.answer()

    def session_ended(self) -> None:
        self.entry = None
        self._endings.note(self._core.now())
        log.warning("session_ended", what="this host's registration is gone; registering again")
        self._core.soon("register")

    # --- going ---

    def retire(self, sentence: str | None) -> None:
        """Operators took this host out of the fleet, in words; None: not, or not any more."""
        if sentence == self._retired:
            return
        self._retired = sentence
        self._core.naming.retired(out=sentence is not None)
        if sentence is None:
            self._core.problems.clear("registration")
        else:
            self._core.problems.set("registration", sentence)
            log.warning("retired", what=sentence)
        self._core.soon("register")

    def _go(self) -> None:
        """As by 'neti leave', where this host is registered, by an earlier run of its agent too."""
        core, earlier = self._core, self._core.disk.itself.entry
        if self._underway or self._going:
            return
        if self.entry is None and earlier is not None and core.members.fleet.stands(earlier):
            self.entry = earlier
        if self.entry is not None:
            self._going = True
            self._say_goodbye()

    def leave(self, request: Request) -> None:
        core = self._core
        if self.leaving is not None:
            request.fail("this host is leaving already\n→ 'neti status' says whether it is done")
            return
        if self.entry is None:
            request.fail(_NOT_REGISTERED if self._retired is None else _RETIRED)
            return
        if not core.in_step.fresh:
            request.fail(
                f"NOT left: the registry cannot be told ({core.in_step.reason}), so peers still "
                f"let this host in\n{_LATER}"
            )
            return
        self.leaving = request
        if not self._underway:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        """For the entry that is there once no registration is under way any more."""
        core, name, request = self._core, self.entry, self.leaving
        if name is not None:
            core.out.worker.submit("leave", _leaving(core.out.registry, core.host.id, name))
        elif request is not None:
            self.leaving = None
            request.fail(_NOT_REGISTERED)
            core.soon("register")

    def left(self) -> None:
        """The job "leave" is done."""
        core = self._core
        core.naming.left()
        log.warning("left", entry=self.entry, what="this host left the fleet; the agent stops")
        self.entry = None
        core.disk.keep("session.json", core.out.folder.forget_session)
        if self.leaving is not None:
            self.leaving.succeed("left")
        self._on_left()

    def leave_failed(self, error: NetiError) -> None:
        if self.leaving is not None:
            self.leaving.fail(
                "this host may not have left, so peers may still let it in, and its agent goes on: "
                f"{error}\n{_LATER}"
            )
        self.leaving = None
        if self._going:
            self._going = False
            log.warning("not_left", what=str(error))
            self._core.timers.retry("register", self._core.now())
            return
        # It may have come about, or half of it, or the session may have ended meanwhile.
        self._core.soon("register")


def _leaving(registry: AgentRegistry, host_id: str, name: str) -> Callable[[], None]:
    member = entry.parse(name)
    assert isinstance(member, Member)
    departure = entry.encode_departure(member)
    return lambda: registry.leave(host_id=host_id, name=name, departure=departure)
