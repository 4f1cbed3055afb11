"""Whose each public key is: what records say, what the registry named, what was revoked. Pure.

A WireGuard peer is its key, so one key is believed of one member only. While two records say the
same key, who had it keeps it, or neither has it, until the registry has said whose it is.

Must never do: take a key from the member that has it, unless the registry names another one, or an
operator has revoked it; believe anybody a key that was revoked.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Set
from types import MappingProxyType

from neti.model.wireguard_key import PublicKey
from neti.registry.revoked import CHARS


class MemberKeys:
    """Not thread-safe: the fleet owns it. ``said``: by host id, the key that its record says.
    ``believed``: those of them that are the host's own. ``ask``: whose a key is."""

    def __init__(self, ask: Callable[[PublicKey], None]) -> None:
        self._ask = ask
        self._said: dict[str, PublicKey] = {}
        self.said: Mapping[str, PublicKey] = MappingProxyType(self._said)
        self._believed: dict[str, PublicKey] = {}
        self.believed: Mapping[str, PublicKey] = MappingProxyType(self._believed)
        self._owner: dict[PublicKey, str] = {}  # of each key that is believed
        # Of keys that several say, or that one says though the registry names another: who does.
        self._sayers: dict[PublicKey, set[str]] = {}
        self._named: dict[PublicKey, str] = {}  # whose each of those is in the registry
        self._revoked: set[str] = set()  # how the keys begin
        self._ending: set[PublicKey] = set()  # revoked, and believed still
        self._changed: set[str] = set()

    def take_changed(self) -> set[str]:
        """Ids whose believed key came, changed or went since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def owner(self, key: PublicKey) -> str | None:
        """Of whom it is believed."""
        return self._owner.get(key)

    @property
    def disputes(self) -> dict[PublicKey, tuple[str | None, Set[str]]]:
        """Keys that are not believed of everybody who says them: whose each is (None: not known
        yet, so nobody has it), and who says it without having it."""
        return {
            key: (self._owner.get(key), sayers - {self._owner.get(key)})
            for key, sayers in self._sayers.items()
        }

    # --- what is told ---

    def say(self, host_id: str, key: PublicKey | None) -> None:
        """What its record says now. Said again, a key in dispute is asked about again."""
        before = self._said.get(host_id)
        if key == before:
            if key is not None and self._is_revoked(key):
                self._end(key)
            elif key in self._sayers:
                self._ask(key)
            return
        if before is not None:
            self._leave(host_id, before)
            del self._said[host_id]
        if key is not None:
            self._said[host_id] = key
            self._join(host_id, key)

    def trust(self, keys: Mapping[str, PublicKey]) -> None:
        """As they were remembered. Of a key that two are remembered by, it is not known whose it
        is: an earlier version kept what each record said."""
        many = Counter(keys.values())
        for host_id, key in keys.items():
            if many[key] > 1 and key not in self._owner:
                self._sayers.setdefault(key, set()).update(i for i in keys if keys[i] == key)
            self.say(host_id, key)

    def begin_like(self, before: "MemberKeys") -> None:
        """What was known of them is known here."""
        self._said.update(before._said)
        self._believed.update(before._believed)
        self._owner.update(before._owner)
        self._sayers.update({key: set(ids) for key, ids in before._sayers.items()})
        self._named.update(before._named)
        self._revoked.update(before._revoked)
        self._ending.update(before._ending)
        self._changed.update(before._said)
        self.ask_again()

    def revoke(self, revoked: Set[str]) -> bool:
        """How the keys begin that operators revoked; what was revoked once stays so. Nobody is
        believed such a key from now on, and who has one already has it until ``end_revoked``: its
        host makes another at once, and is not to be without one for that moment. Returns whether
        somebody has."""
        new = revoked - self._revoked
        self._revoked |= new
        if new:
            known = [*self._owner, *self._sayers]
            self._ending.update(key for key in known if str(key)[:CHARS] in new)
        return bool(self._ending)

    def end_revoked(self) -> None:
        for key in tuple(self._ending):
            self._end(key)

    def owner_read(self, key: PublicKey, host_id: str | None) -> None:
        """Whose it is in the registry. If it is nobody's there, all stays as it is."""
        if key not in self._sayers:
            return
        if host_id is None:
            self._named.pop(key, None)
        else:
            self._named[key] = host_id
        self._decide(key)

    def ask_again(self) -> None:
        """About all keys in dispute: an answer may have been lost, or be an old one."""
        for key in self._sayers:
            self._ask(key)

    # --- within ---

    def _is_revoked(self, key: PublicKey) -> bool:
        return bool(self._revoked) and str(key)[:CHARS] in self._revoked

    def _end(self, key: PublicKey) -> None:
        self._ending.discard(key)
        self._sayers.pop(key, None)
        self._named.pop(key, None)
        if key in self._owner:
            self._doubt(key)

    def _join(self, host_id: str, key: PublicKey) -> None:
        if self._is_revoked(key):
            self._end(key)
            return
        owner = self._owner.get(key)
        if owner is None and key not in self._sayers:
            self._believe(host_id, key)
            return
        self._sayers.setdefault(key, {owner} if owner is not None else set()).add(host_id)
        self._ask(key)
        self._decide(key)

    def _leave(self, host_id: str, key: PublicKey) -> None:
        if self._owner.get(key) == host_id:
            self._doubt(key)
        sayers = self._sayers.get(key)
        if sayers is None:
            return
        sayers.discard(host_id)
        if not sayers:
            del self._sayers[key]
            self._named.pop(key, None)
        else:
            self._decide(key)

    def _decide(self, key: PublicKey) -> None:
        sayers, owner = self._sayers[key], self._owner.get(key)
        named = self._named.get(key)
        right = owner if named is None else named
        if named is None and len(sayers) == 1:
            right = next(iter(sayers))
        if right not in sayers:
            right = None
        if right != owner:
            if owner is not None:
                self._doubt(key)
            if right is not None:
                self._believe(right, key)
        if sayers == {right}:
            del self._sayers[key]
            self._named.pop(key, None)

    def _believe(self, host_id: str, key: PublicKey) -> None:
        self._owner[key] = host_id
        self._believed[host_id] = key
        self._changed.add(host_id)

    def _doubt(self, key: PublicKey) -> None:
        owner = self._owner.pop(key)
        del self._believed[owner]
        self._changed.add(owner)
