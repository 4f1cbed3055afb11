"""Follows which hosts operators took out of the fleet: this one leaves, others go unguarded.

This host remembers on its disk that it is out. A registry that does not say so any more, because it
was wiped, restored from an older copy, or holds a list that cannot be read, does not let it in:
only an operator's later word does. See docs/design/moving.md.

Must never do: take this host out by a word that cannot be read; or prefer an overlay address that
an operator gave to another host.
"""

from dataclasses import replace
from typing import Final

from neti import log
from neti.agent.core import Core
from neti.agent.registration import Registration
from neti.clock import SET_SINCE
from neti.fleet.attendance import moment
from neti.registry.retired import Retired, RetiredUnreadable, decode, taken_back
from neti.state.records import Self
from neti.text import command
from neti.words import some

_DAY: Final = 86_400  # seconds


class Retiring:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core, registration: Registration) -> None:
        self._core = core
        self._registration = registration
        self._ids: frozenset[str] = frozenset()
        # An agent of the version before kept its address, and it may be led to by the disk alone.
        core.disk.keep_self(self._without_what_was_given_away(core.disk.itself))
        self._keep_out(forgotten=False)

    def take(self, value: bytes | None) -> None:
        """The live setting, as it stands now. One that cannot be read changes nothing."""
        core = self._core
        core.live.faults.pop("retired", None)
        try:
            words, back = decode(value), taken_back(value)
        except RetiredUnreadable as error:
            core.live.faults["retired"] = str(error)
            log.warning("live_setting_ignored", what=str(error))
            return
        before, self._ids = self._ids, frozenset(words)
        if self._ids != before:
            log.info("hosts_retired", ids=some(self._ids - before), back=some(before - self._ids))
        self.look()
        own = core.host.id
        self._let_in(back.get(own))
        self._remember(words.get(own))
        self._keep_out(forgotten=own not in words)

    def look(self) -> None:
        """The registry is in doubt now, or not any more. While it is, nobody goes by its words: an
        older copy has older ones, and who was taken back since may be held for another reason."""
        doubted = "origin" in self._core.problems
        self._core.members.fleet.retire(frozenset() if doubted else self._ids)

    def _let_in(self, at: int | None) -> None:
        core, itself = self._core, self._core.disk.itself
        if at is None or at <= (itself.let_in or 0):
            return
        word = itself.retired
        itself = replace(itself, let_in=self._plausible(at))
        if word is not None and at > word.at:
            log.info("let_in_again", at=moment(at))
            itself = replace(self._without_what_was_given_away(itself), retired=None)
        core.disk.keep_self(itself)

    def _remember(self, word: Retired | None) -> None:
        """Before this host says goodbye, so that whoever is killed in between stays out."""
        core, itself = self._core, self._core.disk.itself
        if word is None or (itself.retired is not None and word.at < itself.retired.at):
            return
        if word.at <= (itself.let_in or -1):
            fault = (
                f"says that this host is retired, but an operator took that back later, at "
                f"{moment(itself.let_in or 0)}: was the registry restored from an older copy?\n→ "
                f"{command('neti retire --back', core.host.id)}"
            )
            core.live.faults["retired"] = fault
            log.warning("live_setting_ignored", what=fault)
            return
        if word.overlay is None and (known := itself.retired) is not None:
            # A full list says no longer where the address went.
            word = replace(word, to=known.to, overlay=known.overlay)
        kept = replace(word, at=self._plausible(word.at))
        core.disk.keep_self(self._without_what_was_given_away(replace(itself, retired=kept)))

    def _without_what_was_given_away(self, itself: Self) -> Self:
        """Where an operator gave this host's overlay address to another one, programs here must not
        reach this host by it."""
        word, members = itself.retired, self._core.members
        if word is None or word.overlay is None:
            return itself
        if members.overlay == word.overlay:
            members.hold_lease(None)
        return replace(itself, overlay=None) if itself.overlay == str(word.overlay) else itself

    def _plausible(self, at: int) -> int:
        """Where there are no rights anybody writes any time: none makes all later words void."""
        now = self._core.since()
        return min(at, int(now) + _DAY) if now >= SET_SINCE else at

    def _keep_out(self, *, forgotten: bool) -> None:
        """``forgotten``: the registry does not say it any more."""
        word, own = self._core.disk.itself.retired, self._core.host.id
        if word is None:
            self._registration.retire(None)
            return
        by = f" ({word.by})" if word.by else ""
        ends = command("neti retire --yes --back" if forgotten else "neti retire --back", own)
        also = (
            ". The registry does not say so any more: was it wiped, or restored from an older copy?"
            if forgotten
            else ""
        )
        self._registration.retire(
            f"an operator took this host out of the fleet at {moment(word.at)}{by}, so it does "
            f"not register: {ends} ends that{also}"
        )
