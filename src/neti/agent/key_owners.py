"""Whose a public key is that two records say. A WireGuard peer is its key, so only one may have it.

Must never do: take a key from the member that has it, unless the registry names another one.
"""

from neti import log
from neti.agent.core import Core
from neti.model.wireguard_key import PublicKey
from neti.registry import KeyRead
from neti.registry.record import KeyName
from neti.ruleset.held_peers import HeldPeers
from neti.text import printable


class KeyOwners:
    """Not thread-safe: the loop's thread owns it. ``disputed``: members without a peer, because
    their key is somebody else's."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._read: dict[PublicKey, str | None] = {}
        self._asked: set[PublicKey] = set()
        self.disputed: set[str] = set()

    def read(self, read: KeyRead) -> PublicKey | None:
        """Returns the key."""
        try:
            key = PublicKey.parse(read.key)
        except ValueError:
            return None
        self._read[key] = read.host_id
        return key

    def forget(self, key: PublicKey) -> None:
        """Whose it is may have changed since it was asked."""
        self._read.pop(key, None)
        self._asked.discard(key)

    def ask_again(self) -> None:
        """For answers that did not come: what was asked before the registry was there is lost."""
        unread = [KeyName(str(key)) for key in self._asked if self._read.get(key) is None]
        if unread and self._core.in_step.fresh:
            self._core.out.registry.ask(unread)

    def may_have(self, host_id: str, key: PublicKey, held: HeldPeers) -> bool:
        """Whether this member may have the peer that its record says. The registry is asked once
        where another one has it."""
        if self._is_its(host_id, key, held):
            self.settled(host_id)
            return True
        if key not in self._asked:
            self._asked.add(key)
            self._core.out.registry.ask([KeyName(str(key))])
        if host_id not in self.disputed:
            self._dispute(host_id, key)
        return False

    def _is_its(self, host_id: str, key: PublicKey, held: HeldPeers) -> bool:
        if key == self._core.own_key.public():
            return False
        named = self._read.get(key)
        if named is not None:
            return named == host_id
        owner = held.owners.get(key)
        claims = owner is not None and self._core.members.fleet.keys.get(owner) == key
        return owner == host_id or not claims

    def _dispute(self, host_id: str, key: PublicKey) -> None:
        self.disputed.add(host_id)
        log.error("key_of_another", id=host_id, public=key)
        self._core.problems.set(
            "key_of_another",
            f"the record of {printable(host_id)} says the public key {key}, which another host "
            "has: it gets no road by that key → neti registry check",
            subject=host_id,
        )

    def settled(self, host_id: str) -> None:
        """It has the key that its record says, or none."""
        if host_id in self.disputed:
            self.disputed.discard(host_id)
            self._core.problems.clear("key_of_another", subject=host_id)
