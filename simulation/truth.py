"""What is so, kept apart from what any agent believes: who is there, who left, what was said.

Must never do: ask an agent. It reads the registry's own state, the kernels and the disks.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, Literal

from neti.errors import EntryError
from neti.model import Departure, Member, entry
from neti.model.groups import Groups, MemberPorts
from neti.registry.memory import MemoryServer
from simulation.host import SimulatedHost
from simulation.world import World, is_forged

_SELF, _RETIRED = "self.json", b'"retired":{'
MENDED_WITHIN: Final = 130.0  # seconds in which what others did is surely found, fights included


@dataclass(slots=True)
class Word:
    """Of one host: what operators said last, and what the world did to it since.

    ``enforced``: it was enforced, was told to be, and nobody has taken that back. ``relaxed``: an
    operator was told that it is open for good. ``damaged``: its disk is not what the agent left
    there. ``meddled``: when another program last touched its table.
    """

    enforced: bool = False
    relaxed: bool = False
    down: bool = False
    borne: Literal["", "down", "relax"] = ""  # said, and only its kernel has it, until that forgets
    damaged: bool = False
    accepted: bool = False  # an operator said that users may be lost, or confirmed a trial
    lied: bool = False  # its disk lost what it had called safe
    torn: bool = False  # one of its files, and no agent has seen to it yet
    meddled: float = -1e9
    unanswered: float = -1e9  # when no gateway of another site answered it last
    meddled_road: float = -1e9  # and its way to the device, or the device
    requires: bool = False  # encryption is in force for good, and it was told so
    # Those that are in force, as was told, and what files added since; None: every port is.
    ports: MemberPorts = None
    released: set[str] = field(default_factory=set)
    for_good_seen: bool = False
    looked_at: tuple[int, int] = (-1, -1)
    rested_at: tuple[object, ...] = ()
    record: bytes = b""
    stage: str = "down"  # what its kernel did when it was last looked at, and
    stage_at: tuple[int, int] = (-1, -1)  # what it had done by then
    vouched: bool = False  # an operator confirmed the trial, or armed it knowing who is shut out
    shut_out: bool = False  # a trial confirmed itself, and a session that it shuts out was open
    overlay: dict[str, str] = field(default_factory=dict)  # as the kernel's map was last seen
    knew: Mapping[str, Member] = field(default_factory=dict)  # who was there when it last knew all
    knew_at: float = -1e9
    learnt: dict[str, float] = field(default_factory=dict)  # since when it knows of each of them
    deaf_before: float | None = None  # since when it knew not all when it was last looked at
    saw_last: dict[str, float] = field(default_factory=dict)  # and when it last knew of the others

    def knows(self, members: Mapping[str, Member], now: float, *, deaf_from: float) -> None:
        """It has caught up with the registry."""
        if members is not self.knew:
            self.learnt.update(dict.fromkeys(members.keys() - self.knew.keys(), now))
            at = now if deaf_from <= self.knew_at else self.knew_at
            self.saw_last.update(dict.fromkeys(self.knew.keys() - members.keys(), at))
            self.knew = members
        self.knew_at = now

    def saw(self, host_id: str) -> float:
        """When it last knew that this one was there."""
        return self.knew_at if host_id in self.knew else self.saw_last.get(host_id, -1e9)

    def forget_since(self, since: float) -> None:
        """What it heard lately is not on its disk: who came then may be lost since long ago."""
        lately = {host_id for host_id in self.knew if self.learnt[host_id] >= since}
        self.knew = {i: member for i, member in self.knew.items() if i not in lately}
        self.saw_last.update(dict.fromkeys(lately, -1e9))

    def knows_nothing(self) -> None:
        """Its disk is an older one: what it has seen since then is not on it."""
        self.knew, self.knew_at = {}, -1e9
        self.saw_last.clear()

    def forget(self) -> None:
        """Nothing that was promised before counts any more."""
        self.enforced = self.relaxed = self.requires = False
        self.borne = ""
        self.ports = None


@dataclass(slots=True)
class Truth:
    """``gone``: since when nobody is registered under an id. ``left``: ids whose last word was a
    goodbye, and when. ``owner``: who held an overlay address last. ``groups``: by name all lines
    that operators ever wrote, pattern and site; ``at``: who was ever at an address."""

    words: dict[str, Word] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    wiped: bool = False  # the registry, at any time
    came: dict[str, float] = field(default_factory=dict)  # since when each is, or was, registered
    gone: dict[str, float] = field(default_factory=dict)
    left: dict[str, float] = field(default_factory=dict)
    said_last: dict[str, float] = field(default_factory=dict)  # when each said goodbye last
    owner: dict[str, str] = field(default_factory=dict)
    passed_on: dict[str, float] = field(default_factory=dict)  # when an address became another's
    # By host and address, when it was last not the host's any more; it may be again.
    lease_lost: dict[tuple[str, str], float] = field(default_factory=dict)
    formerly: dict[str, set[str]] = field(default_factory=dict)  # and whose it has been
    leases: dict[str, str] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)  # of the entries that were there last
    stages: Counter[tuple[str, str]] = field(default_factory=Counter)  # from which to which
    # By id, since when operators want it out; and of whom they ever did.
    retired: dict[str, float] = field(default_factory=dict)
    ever_retired: set[str] = field(default_factory=set)
    heard_out: set[str] = field(default_factory=set)  # and of those who are out, who has heard it
    groups: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    at: dict[str, set[tuple[str, str]]] = field(default_factory=dict)  # address: ids with sites
    _seen: tuple[str, int, int] | None = None

    def of(self, host: SimulatedHost) -> Word:
        word = self.words.get(host.label)
        if word is None:
            word = self.words[host.label] = Word()
        return word

    def retire(self, host_id: str, now: float) -> None:
        self.retired.setdefault(host_id, now)
        self.ever_retired.add(host_id)

    def take_back(self, host_ids: Iterable[str]) -> None:
        for host_id in host_ids:
            self.retired.pop(host_id, None)
            self.heard_out.discard(host_id)

    def said_of_groups(self, said: Groups) -> None:
        for name, lines in said.lines.items():
            every = self.groups.setdefault(name, set())
            every.update((line.pattern, line.site) for line in lines)

    def ever_in(self, address: str) -> frozenset[str]:
        """Groups in which anybody ever was who was ever at this address: who shares one shares
        them."""
        who = self.at.get(address, set())
        return frozenset(
            name
            for name, lines in self.groups.items()
            if any(
                fnmatchcase(host_id, pattern) and of in ("", site)
                for pattern, of in lines
                for host_id, site in who
            )
        )

    def look(self, world: World) -> None:
        """At the registry, after each act."""
        server, now = world.server, world.time.now
        seen = (server.fleet, server.changes, len(server._leases))
        if seen != self._seen:
            self._seen = seen
            self._read(server, now)
        for host in world.hosts:
            word, done = self.of(host), (host.gate.count, host.boots)
            if host.caught_up:
                word.knows(self.members, now, deaf_from=host.deaf_from)
            if host.id in self.retired and host.id not in self.heard_out and _is_out(host):
                self.heard_out.add(host.id)
            if done != word.stage_at:
                word.stage_at = done
                self._look_at_stage(host, word)

    def _look_at_stage(self, host: SimulatedHost, word: Word) -> None:
        before, word.stage = word.stage, host.kernel.stage
        if before == word.stage:
            return
        self.stages[before, word.stage] += 1
        if word.stage == "trial":
            word.vouched = False
        elif (before, word.stage) == ("trial", "enforced") and not word.vouched:
            word.shut_out = "elsewhere" in host.sessions

    def _read_leases(self, server: MemoryServer, now: float) -> None:
        held, self.leases = self.leases, {}
        for overlay, host_id in server._leases.items():
            text = str(overlay)
            before = self.owner.get(text, host_id)
            if before != host_id:
                self.passed_on[text] = now
                self.formerly.setdefault(text, set()).add(before)
            self.leases[host_id], self.owner[text] = text, host_id
        for host_id, text in held.items():
            if self.leases.get(host_id) != text:
                self.lease_lost[host_id, text] = now

    def _read(self, server: MemoryServer, now: float) -> None:
        self._read_leases(server, now)
        present: dict[str, Member] = {}
        departed: dict[str, int] = {}
        for name in server._names:
            parsed = _parsed(name) if not is_forged(name) else None
            if isinstance(parsed, Departure):
                departed[parsed.id] = max(parsed.generation, departed.get(parsed.id, -1))
            elif isinstance(parsed, Member) and self.leases.get(parsed.id) == str(parsed.overlay):
                present[parsed.id] = parsed
                for address in (parsed.private, parsed.public, parsed.overlay):
                    self.at.setdefault(str(address), set()).add((parsed.id, parsed.site))
        for host_id in self.members.keys() - present.keys():
            self.gone[host_id] = now
        for host_id in present:
            self.gone.pop(host_id, None)
        self.generations.update({host_id: one.generation for host_id, one in present.items()})
        for host_id, generation in departed.items():
            # A word about an earlier entry stands for a while after its host has come again.
            if host_id in present or generation < self.generations.get(host_id, -1):
                continue
            self.left.setdefault(host_id, now)
            self.said_last[host_id] = now
        for host_id in present.keys() & self.left.keys():
            del self.left[host_id]
        for host_id in present.keys() - self.members.keys():
            self.came[host_id] = now
        self.members = present


def _is_out(host: SimulatedHost) -> bool:
    """Its disk says that operators took it out of the fleet."""
    held = host.disk.files.get(_SELF)
    return held is not None and _RETIRED in held.data


def _parsed(name: str) -> object:
    try:
        return entry.parse(name)
    except EntryError:
        return None
