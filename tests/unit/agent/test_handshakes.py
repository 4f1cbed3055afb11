"""What is heard of peers is judged as of the last look, however long ago that was."""

from dataclasses import replace

import pytest

from neti.agent.handshakes import ANEW, Handshakes
from neti.model.wireguard_key import PublicKey
from neti.ruleset.peers import Device, Peer, PeerState

KEY = PublicKey(b"\1" + bytes(31))
SMALLER, GREATER = PublicKey(bytes(31) + b"\1"), PublicKey(b"\2" + bytes(31))
SHAKEN = PeerState(
    Peer(KEY, frozenset(), None, 0), handshake=1_800_000_000.0, received=148, sent=92
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def device(state: PeerState) -> Device:
    return Device(None, 51820, {KEY: state})


def looked(*states: tuple[float, PeerState]) -> tuple[Clock, Handshakes]:
    """At these, each so many seconds after the one before."""
    clock = Clock()
    shakes = Handshakes(clock)
    for seconds, state in states:
        clock.now += seconds
        shakes.note(device(state))
    return clock, shakes


@pytest.mark.parametrize(
    ("before", "doubted", "answered"),
    [
        (5.0, replace(SHAKEN, sent=300), replace(SHAKEN, sent=300, received=180)),
        (500.0, replace(SHAKEN, sent=124), replace(SHAKEN, sent=124, handshake=1_800_000_501.0)),
    ],
    ids=["says nothing", "its session is over"],
)
def test_a_doubt_of_long_ago_may_have_been_answered_since(
    before: float, doubted: PeerState, answered: PeerState
) -> None:
    """Where looks are far apart: the answer comes after the look that doubts."""
    clock, shakes = looked((0.0, SHAKEN), (before, doubted))
    clock.now += 50.0
    assert shakes.answers(KEY)
    assert not shakes.tries("ec2-2", KEY)
    assert not shakes.is_silent("ec2-2", KEY)
    shakes.note(device(answered))
    assert shakes.answers(KEY)


def test_a_doubt_that_a_look_confirms_counts() -> None:
    clock, shakes = looked((0.0, SHAKEN), (5.0, replace(SHAKEN, sent=300)))
    clock.now += 50.0
    shakes.note(device(replace(SHAKEN, sent=400)))
    assert not shakes.answers(KEY)
    assert shakes.is_silent("ec2-2", KEY)
    assert shakes.tries("ec2-2", KEY)


def test_nobody_is_called_silent_for_what_may_have_come_since_the_last_look() -> None:
    never = replace(SHAKEN, handshake=None)
    clock, shakes = looked((0.0, never), (10.0, never))
    clock.now += 10.0
    assert not shakes.is_silent("ec2-2", KEY)
    shakes.note(device(never))
    assert shakes.is_silent("ec2-2", KEY)


def test_what_ended_while_the_device_was_looked_at_is_not_begun_anew() -> None:
    """A look at thousands of peers takes longer than a handshake is waited for."""
    clock, shakes = looked()
    shakes.note(device(PeerState(SHAKEN.peer)))
    shakes.begin(KEY)
    asked = clock.now + ANEW / 2
    clock.now += 10 * ANEW
    shakes.note(device(PeerState(SHAKEN.peer)), asked)
    assert shakes.take_unanswered(SMALLER) == []
    shakes.note(device(PeerState(SHAKEN.peer)))
    assert shakes.take_unanswered(SMALLER) == [KEY]


def test_the_end_with_the_greater_key_waits_for_the_other_one_first() -> None:
    clock, shakes = looked()
    shakes.note(device(PeerState(SHAKEN.peer)))
    shakes.begin(KEY)
    clock.now += 1.5 * ANEW
    shakes.note(device(PeerState(SHAKEN.peer)))
    assert shakes.take_unanswered(GREATER) == []
    clock.now += ANEW / 2
    shakes.note(device(PeerState(SHAKEN.peer)))
    assert shakes.take_unanswered(GREATER) == [KEY]
    assert shakes.take_unanswered(GREATER) == []
