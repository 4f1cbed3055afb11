"""What is heard of WireGuard peers: who answers, who is tried, and when to look again.

Must never do: touch the device, or decide by which road a member is reached.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from neti.model.wireguard_key import PublicKey
from neti.ruleset.peers import Device, Peer, PeerState
from neti.ruleset.roads import THREE_ATTEMPTS, Heard
from neti.ruleset.turns import Turns

EVERY: Final = 60.0  # seconds between two looks at the device, at most
# Seconds until the first look at somebody who is waited for; each pause is twice as long. Until a
# handshake is seen, which takes one round trip, a new member is reached in the clear.
_FIRST: Final = 0.05
_COST: Final = 20.0  # a pause is at least so many times as long as a look takes
# One that does not answer any more is cut off until that is seen: so seconds between two looks
# where somebody answers, if they cost no more than a hundredth of the time.
_OFTEN: Final = 5.0
_COST_OFTEN: Final = 100.0
# Seconds after which a handshake without an answer is begun anew: more than a round trip anywhere,
# and less than the five of WireGuard.
ANEW: Final = 1.0
_SECOND: Final = 2.0  # likewise, of the end that leaves it to the other one


class Handshakes:
    """Not thread-safe: the loop's thread owns it. ``now``: monotonic seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._turns = Turns(seconds=THREE_ATTEMPTS)
        self._heard: dict[PublicKey, Heard] = {}
        # Handshakes that this side began: since when, and when the last one was by then.
        self._begun: dict[PublicKey, tuple[float, float | None]] = {}
        # When the last look was. What the device said then is judged as of then: a doubt that is
        # long enough ago by now may have been answered meanwhile.
        self._noted = now()
        self._pause = EVERY
        self._cost = 0.0
        self.states: Mapping[PublicKey, PeerState] = {}  # what the device had at the last look

    # --- what the device says ---

    def note(self, device: Device | None, at: float | None = None) -> None:
        """Of a peer that the device did not have nothing was heard. ``at``: when it was asked, if
        not now: a look may take seconds, and what ended meanwhile is not in it."""
        now = self._noted = self._now() if at is None else at
        before, self.states = self._heard, device.peers if device is not None else {}
        self._heard = {
            key: before[key].then(state, now) if key in before else Heard.first(state, now)
            for key, state in self.states.items()
        }
        self._begun = {
            key: (since, last)
            for key, (since, last) in self._begun.items()
            if key in self.states and self.states[key].handshake == last
        }

    def excuse(self, key: PublicKey) -> None:
        """Its host is lost, and answers nowhere."""
        heard = self._heard.get(key)
        if heard is not None:
            self._heard[key] = heard.excused()

    def forget(self, key: PublicKey) -> None:
        """Its peer is gone, or becomes another's."""
        self._heard.pop(key, None)
        self._begun.pop(key, None)

    def made_anew(self, key: PublicKey) -> None:
        """Its peer was taken out and put back: that tells nothing of whether it answers."""
        heard = self._heard.get(key)
        if heard is not None:
            self._heard[key] = heard.made_anew(self._now())

    def forget_all(self) -> None:
        """There is no device any more."""
        self._heard, self._begun, self.states = {}, {}, {}
        self._turns = Turns(seconds=THREE_ATTEMPTS)

    # --- who answers ---

    def answers(self, key: PublicKey) -> bool:
        heard = self._heard.get(key)
        return heard is not None and heard.answers(self._noted)

    def is_silent(self, host_id: str, key: PublicKey) -> bool:
        """It was tried for long enough to be called so."""
        heard = self._heard.get(key)
        if heard is None or heard.answers(self._noted) or self._turns.untried(host_id):
            return False
        return self._noted - heard.since >= THREE_ATTEMPTS

    # --- who is tried ---

    def tries(self, host_id: str, key: PublicKey) -> bool:
        """Whether it is sent something until it answers."""
        if self.answers(key):
            self._turns.end(host_id)
            return False
        return self._turns.begin(host_id, now=self._now())

    def waits(self, host_id: str) -> bool:
        """For its turn to be tried."""
        return self._turns.waits(host_id)

    def end(self, host_id: str) -> None:
        """It has no peer any more."""
        self._turns.end(host_id)

    def pass_on(self) -> None:
        """Turns that have lasted long enough are others'."""
        self._turns.pass_on(now=self._now())

    def has_changed(self, host_id: str, peer: Peer) -> bool:
        """Whether it has answered, does not any more, or has its turn, and the peer is not so."""
        turns = self._turns
        if self.answers(peer.key):
            return bool(peer.keepalive) or host_id in turns
        return host_id not in turns or turns.tries(host_id) != bool(peer.keepalive)

    # --- handshakes that this side begins ---

    def begin(self, key: PublicKey) -> None:
        """This side sends something that needs a handshake with this peer."""
        state = self.states.get(key)
        self._begun[key] = self._now(), state.handshake if state is not None else None

    def take_unanswered(self, own: PublicKey) -> list[PublicKey]:
        """Those with whom a handshake was begun a while before the last look, and not ended by
        then. Each is named once. ``own``: of the two ends the one with the smaller key is first."""
        late = [
            key
            for key, (since, _) in self._begun.items()
            if self._noted - since >= (ANEW if own.raw < key.raw else _SECOND)
        ]
        for key in late:
            del self._begun[key]
        return late

    # --- when to look again ---

    def looked(self, peers: Collection[Peer], cost: float) -> None:
        """At all of these. The next look is soon as long as an answer is waited for, but less and
        less so. ``cost``: how many seconds it took."""
        self._cost = cost
        answering = [self.answers(peer.key) for peer in peers]
        every = min(EVERY, max(_OFTEN, _COST_OFTEN * cost)) if any(answering) else EVERY
        self._pause = every if all(answering) else min(2 * self._pause, every)
        doubts = (one for one in self._heard.values() if one.doubted is not None)
        if any(one.answers(self._noted) for one in doubts):
            self._pause = min(self._pause, THREE_ATTEMPTS)
        if self._begun:
            self._pause = min(self._pause, ANEW)

    def await_answer(self, host_id: str, key: PublicKey) -> None:
        """Its peer is told to try it."""
        if self._turns.tries_again(host_id):
            self._pause = min(self._pause, THREE_ATTEMPTS)
            return
        self._pause = _FIRST
        state = self.states.get(key)
        if state is None or state.handshake is None:
            self.begin(key)

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        return max(self._pause, _COST * self._cost)
