"""Asks gateways by probes whether they pass on, and says which of them are believed to.

It has no thread: the timer "probe" sends what is due, and hears what came meanwhile.

Must never do: judge before all answers that have come are heard; believe anybody dead because this
host's own table, port or road is not there: if no gateway answers, what was sent to is sent to.
"""

import secrets
from typing import Final

from neti import log
from neti.agent.core import Core
from neti.agent.probe_socket import WORD_BYTES
from neti.errors import NetiError
from neti.ruleset.gateway_choice import Belief
from neti.ruleset.gateway_probes import GatewayProbes
from neti.ruleset.gateways import sent_by
from neti.ruleset.objects import KernelState
from neti.words import some

_NO_PORT: Final = (
    "so gateways cannot be probed here: one that is dead is noticed only when its session ends"
)
_AGAIN: Final = 30.0  # seconds to another try to get the port


class Probing:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._probes = GatewayProbes(lambda: secrets.token_bytes(WORD_BYTES))
        self._followed: tuple[object, ...] = ()
        self._held: frozenset[str] = frozenset()  # addresses that the kernel sent to at the start

    def begin(self, kernel: KernelState) -> None:
        """Where this host has been sending to. An agent before this one may have known better than
        the registry: a lost gateway that it sent to may pass on, and one to which nothing is sent
        has to answer before anything is."""
        self._held = sent_by(kernel)

    def follow(self) -> None:
        """This host sends to these gateways now, or to none any more."""
        core = self._core
        if core.out.probes is None:
            return
        part, down = core.members.gateways, core.down.asked
        if (part, part.version, down) == self._followed:
            return
        self._followed = part, part.version, down
        places, used = part.sent_to if not down else ({}, ())
        self._probes.follow(places, used)
        if places and self._held:
            self._probes.presume([one for one, to in places.items() if str(to) in self._held])
            self._held = frozenset()
        if not places:
            self._rest()
        elif "probe" not in core.timers.due:
            core.soon("probe")
        part.believe(self._probes.belief)

    def _rest(self) -> None:
        core = self._core
        core.timers.due.pop("probe", None)
        core.problems.clear("gateway_probes")
        if core.out.probes is not None:
            core.out.probes.close()

    def look(self) -> None:
        """The timer "probe"."""
        core, door = self._core, self._core.out.probes
        ports = core.members.gateways.ports
        if door is None or ports is None or core.down.asked:
            self._rest()
            return
        try:
            door.open(ports.probe)
        except NetiError as error:
            core.problems.set("gateway_probes", f"{error}, {_NO_PORT}")
            self._probes.follow({}, ())  # what is believed cannot be put right any more
            self._followed = ()
            core.soon("probe", _AGAIN)
            return
        core.problems.clear("gateway_probes")
        now, before = core.now(), self._probes.belief
        for word, source in door.answers():
            self._probes.hear(word, source)
        self._probes.judge(now)
        for question in self._probes.questions(now):
            door.ask(question.to, question.word)
        self._tell(before)
        due = self._probes.due()
        if due is not None:
            core.timers.at("probe", due)

    def _tell(self, before: Belief) -> None:
        core, belief = self._core, self._probes.belief
        part = core.members.gateways
        part.believe(belief)
        if belief == before:
            return
        if part.unanswered:
            core.soon("identity")  # perhaps this host's public address is gone
        if gone := belief.dead - before.dead:
            log.warning("gateway_silent", ids=some(sorted(gone)))
        if back := before.dead - belief.dead:
            log.info("gateway_answers", ids=some(sorted(back)))
        core.soon("commit")  # however long changes are gathered
