"""Which entry of each host is its own word, by its record in the registry, and its key. Pure.

An entry is *proved* when the record names it and both were written in one step. We know that when
the entry came directly after the record, or when the numbers of the two steps are equal. A proved
entry stays so until it is gone, or until another entry of its host is proved. An entry of the last
good state is *trusted*: it counts as proved until its record has been read and says otherwise. See
docs/design/host-records.md.

A host's public key is what its record says when its entry is proved. It is kept while the host is
lost, until another entry is proved or nobody has the id any more. Where records decide nothing,
they may still be read for the keys alone.

Must never do: ask the registry about a name that no record names, but for the one that an id has in
a whole list; for a whole list, read a record twice.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Set
from types import MappingProxyType
from typing import Final, Literal

from neti.errors import EntryError
from neti.fleet.member_keys import MemberKeys
from neti.fleet.pace import Pace
from neti.fleet.reads import Asking
from neti.model import Departure, entry
from neti.model.wireguard_key import PublicKey
from neti.registry import HostRead

# Whether records are not read, are read and only reported, or decide.
Mode = Literal["off", "report", "strict"]


def mode_of(*, tls: bool, strict: bool) -> Mode:
    """What records are used for on a host. Without TLS anybody could write them. ``strict``: an
    operator turned that on."""
    if not tls:
        return "off"
    return "strict" if strict else "report"


UNNAMED: Final = "its host's record does not name it"


class Vouching:
    """Not thread-safe: the fleet owns it. ``proved``: by host id the entry that is its word.
    ``standing``: whether the registry holds this name. ``keys``, at
    first: records are read for them even where they are used for nothing else."""

    def __init__(
        self,
        mode: Mode,
        asking: Asking,
        standing: Callable[[str], bool],
        pace: Pace,
        *,
        keys: bool = False,
    ) -> None:
        self._mode = mode
        self.reads: Final = keys or mode != "off"  # whether records are read at all
        self._for_keys: Final = keys
        self._asking = asking
        self._pace = pace
        self._standing = standing
        self._proved: dict[str, str] = {}
        self.proved: Mapping[str, str] = MappingProxyType(self._proved)
        # Ids that were proved earlier, and not looked at since.
        self._trusted: set[str] = set()
        self.trusted: Set[str] = self._trusted
        self._said: dict[str, HostRead] = {}  # by id: records whose word is not proved
        self._twins: dict[str, str] = {}  # by id: what came directly after its record was written
        # By id: those before it, until the record is read. A host may register twice meanwhile,
        # and must not be nobody for that moment.
        self._former_twins: dict[str, set[str]] = {}
        self._made: dict[str, int] = {}  # names whose step was read
        self._listed: dict[str, set[str]] = {}  # by id: names of a whole list, until it is read
        self._since_gap: set[str] | None = None  # in a gap: ids that were proved since it began
        self._just_changed: str | None = None  # the event before this one was about its record
        self.keys: Final = MemberKeys(asking.want_key)
        self._rekeyed: set[str] = set()

    @property
    def mode(self) -> Mode:
        return self._mode

    @property
    def decides(self) -> bool:
        return self.mode == "strict"

    def vouched(self, host_id: str, name: str) -> bool | None:
        """Whether this entry is its host's word; None: being read."""
        if self._proved.get(host_id) == name:
            return True
        if self._asking.asks_data(name):
            return None
        # An entry that came without a record while we watched is nobody's word.
        open_still = (
            self._twins.get(host_id) == name
            or name in self._former_twins.get(host_id, ())
            or name in self._made
            or name in self._listed.get(host_id, ())
        )
        return None if open_still and self._is_looked_at(host_id) else False

    def _is_looked_at(self, host_id: str) -> bool:
        return self._asking.asks_host(host_id) or self._pace.waits(host_id)

    def waits(self, host_id: str) -> bool:
        """Whether the look at its record is put off: it was written again and again."""
        return self._pace.waits(host_id)

    def next_tick(self) -> float | None:
        """When ``tick`` next has something to do."""
        return self._pace.next()

    def goodbye(self, host_id: str) -> Departure | None:
        """The goodbye that is the host's word, if the registry holds it; there may be others."""
        said = self._said.get(host_id)
        word = said.record.word if said is not None and said.record is not None else ""
        if not word.startswith("left.") or not self._standing(word):
            return None
        try:
            parsed = entry.parse(word)
        except EntryError:
            return None
        return parsed if isinstance(parsed, Departure) and parsed.id == host_id else None

    def take_rekeyed(self) -> set[str]:
        """Ids whose believed key came, changed or went since the last call, or was proved with a
        new entry."""
        rekeyed, self._rekeyed = self._rekeyed | self.keys.take_changed(), set()
        return rekeyed

    # --- what is told ---

    def decide(self, decide: bool) -> bool:
        """From now on records decide, or are only reported. Returns whether that is a change."""
        if self._mode == "off" or decide == self.decides:
            return False
        self._mode = "strict" if decide else "report"
        return True

    def begin_like(self, before: "Vouching") -> None:
        """What another fleet had proved is trusted in this one."""
        if self._mode != "off":
            self._mode = before.mode
        self.trust(before.proved, {})
        if self.reads:
            self.keys.begin_like(before.keys)

    def changed(self, host_id: str, *, known: bool, now: float) -> None:
        """The record was written. ``known``: a host has this id, or had it a moment ago."""
        self._just_changed = host_id
        if known and self.reads:
            self._look(host_id, now)

    def other_event(self) -> None:
        """Something else happened, so the next entry does not follow a record directly."""
        self._just_changed = None

    def appeared(self, host_id: str, name: str, *, now: float, same: bool = False) -> bool:
        """An entry came while we watched. Whether it may be its host's word. ``same``: it says of
        its host what is believed of it."""
        twin, self._just_changed = self._just_changed == host_id, None
        if twin and self.reads:
            if (before := self._twins.get(host_id)) is not None:
                self._former_twins.setdefault(host_id, set()).add(before)
            self._twins[host_id] = name
            if not (same and self._may_wait(host_id, now)):
                self._look(host_id, now)
        elif self.mode == "off":
            self.listed(host_id, name)  # perhaps nobody tells us of records
        return twin

    def listed(self, host_id: str, name: str, *, now: float = 0.0, same: bool = False) -> None:
        """It stood in a whole list, so nobody saw how it came. Of several names of one id, only
        that which the record names is asked about, once it has been read. ``same``: as above."""
        if self.reads and self._proved.get(host_id) != name:
            if not (same and self._may_wait(host_id, now)):
                self._pace.hurry(host_id)
                self._asking.want_host(host_id)
            self._listed.setdefault(host_id, set()).add(name)

    def whole_list(self) -> None:
        """All of it has been told. Where an id has one name there, its record most likely names it:
        the step that made it is asked for along with the record, and not after it."""
        for host_id, names in self._listed.items():
            if len(names) == 1 and not self._pace.waits(host_id):
                self._asking.want_data(name for name in names if name not in self._made)

    def said_goodbye(self, host_id: str, *, listed: bool) -> None:
        """A goodbye of a host that is known stands. While we watched, its record was written before
        it and read then, and a goodbye that came without that is somebody else's."""
        if listed or host_id in self._trusted:
            self._asking.want_host(host_id)

    def tick(self, *, now: float) -> None:
        """Look at the records whose look was put off."""
        for host_id in self._pace.due(now=now):
            self._asking.want_host(host_id)

    def trust(self, words: Mapping[str, str], keys: Mapping[str, PublicKey]) -> None:
        """By host id: entries of the last good state, and keys of hosts."""
        if self.reads:
            self._proved.update(words)
            self._trusted.update(words)
            self.keys.trust(keys)

    def keep_only(self, members: Collection[str]) -> None:
        """A host of the last good state that did not become a member is not trusted."""
        for host_id in self._trusted - set(members):
            self._trusted.discard(host_id)
            del self._proved[host_id]
        for host_id in self.keys.said.keys() - set(members):
            self.keys.say(host_id, None)

    def gap_begins(self) -> None:
        """What is proved from now on was seen on the connection that the next list comes by. If
        that one is lost as well, another gap begins."""
        self._since_gap = set()

    def gap_is_over(self) -> None:
        self._since_gap = None

    def doubt_all(self) -> None:
        self._trusted.update(self._proved.keys() - (self._since_gap or ()))

    def again(self, ids: Iterable[str]) -> None:
        """Check again what was proved."""
        for host_id in ids:
            if (name := self._proved.get(host_id)) is not None:
                self._trusted.add(host_id)
                self._asking.want_host(host_id)
                self._asking.want_data((name,))

    def host_read(self, read: HostRead) -> bool:
        """Whether anything follows from it: not while the step that made its word is read, which
        stands for itself when it has been."""
        self._asking.host_read(read.host_id)
        if not self.reads:
            return True
        self._said[read.host_id] = read
        self._listed.pop(read.host_id, None)
        self._former_twins.pop(read.host_id, None)
        return self._prove(read.host_id)

    def is_next(self, host_id: str) -> bool:
        """Whether its record, which is being read, decides before anything else can."""
        if not self.decides or host_id in self._proved:
            return False
        return self._asking.asks_host(host_id)

    def data_read(self, host_id: str, name: str, made: int) -> None:
        if not self.reads:
            return
        if self._standing(name):  # of one that is gone nothing is known: it may come again
            self._made[name] = made
        self._prove(host_id)

    def vanished(self, host_id: str, name: str) -> None:
        self._made.pop(name, None)
        if self._twins.get(host_id) == name:
            del self._twins[host_id]
        if (former := self._former_twins.get(host_id)) is not None:
            former.discard(name)
            if not former:
                del self._former_twins[host_id]
        if self._proved.get(host_id) == name:
            del self._proved[host_id]
            self._trusted.discard(host_id)

    def forget(self, host_id: str) -> None:
        """Nobody has this id any more."""
        self._said.pop(host_id, None)
        self.keys.say(host_id, None)
        self._listed.pop(host_id, None)
        self._former_twins.pop(host_id, None)
        self._asking.forget_host(host_id)
        self._pace.forget(host_id)

    # --- within ---

    def _may_wait(self, host_id: str, now: float) -> bool:
        """Whether a look that nothing waits for is put off. Where records are read for keys, all of
        them are waited for: the host may have its first one, or another, by which alone it is
        reached."""
        if self._for_keys or self._asking.opened_host(host_id):
            return False
        if self._pace.may_unhurried(host_id, now=now):
            return False
        self._asking.put_off_host(host_id)
        return True

    def _look(self, host_id: str, now: float) -> None:
        """Look at its record. One that is written again and again is looked at now and then."""
        self._pace.hurry(host_id)
        if not self._asking.is_due(host_id) and self._pace.may(host_id, now=now):
            self._asking.want_host(host_id)

    def _prove(self, host_id: str) -> bool:
        """Whether the word is proved now, or not; otherwise that is being read."""
        said = self._said.get(host_id)
        if said is None:
            return False
        word = said.record.word if said.record is not None else ""
        if self._standing(word) and not word.startswith("left."):
            if self._twins.get(host_id) != word and word not in self._made:
                if not self._asking.asks_data(word):
                    self._asking.want_data((word,))
                return False
            if self._twins.get(host_id) == word or self._made[word] == said.written:
                key = _key(said)
                if key is not None and self._proved.get(host_id) != word:
                    self._rekeyed.add(host_id)  # that it is this entry's is news as well
                self._proved[host_id] = word
                self._trusted.discard(host_id)
                if self._since_gap is not None:
                    self._since_gap.add(host_id)
                self._twins.pop(host_id, None)
                self._made.pop(word, None)
                del self._said[host_id]
                self.keys.say(host_id, key)
                return True
        if host_id in self._trusted:
            self._trusted.discard(host_id)
            if not word.startswith("left."):
                del self._proved[host_id]
                # Its new entry may only not have come yet.
                if _key(said) != self.keys.said.get(host_id):
                    self.keys.say(host_id, None)
        return True


def _key(read: HostRead) -> PublicKey | None:
    """What it says is one key's only text, or nothing: its reader sees to that."""
    said = read.record.key if read.record is not None else ""
    return PublicKey.of_record(said) if said else None
