"""How many leases are read because of words that leases were moved, which any member can make."""

from ipaddress import IPv4Address

from neti.fleet.moves import Moves
from neti.fleet.pace import Pace

FIRST = IPv4Address("192.168.0.0")


def moves(members: int) -> Moves:
    return Moves(Pace("a", lambda: members))


def test_an_operators_word_is_heeded_at_once() -> None:
    told = moves(16_000)
    for number in range(6):
        assert told.heard(FIRST + number, now=0.0) == [FIRST + number]


def test_a_flood_of_words_costs_one_request_now_and_then_and_no_address_is_forgotten() -> None:
    """A thousand a second about 16,000 addresses, again and again, for a minute."""
    told, read = moves(16_000), []
    now = 0.0
    for number in range(60_000):
        now = number / 1000
        read.append(told.tick(now=now))
        read.append(told.heard(FIRST + number % 16_000, now=now))
    looks = [each for each in read if each]
    assert len(looks) <= 6 + 60 // 16 + 1
    assert max(map(len, looks)) <= 128
    while (at := told.next_tick()) is not None:
        looks.append(told.tick(now=at))
        assert len(set(looks[-1])) == len(looks[-1]) <= 128
    assert {overlay for each in looks for overlay in each} == {FIRST + n for n in range(16_000)}
