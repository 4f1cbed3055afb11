"""Which packets a road loses, and what it costs to find that out."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.agent import packet_sizes, responder
from neti.agent.member_talk import Answer, Stalled
from neti.agent.packet_sizes import AT_ONCE, ROUNDS, SEARCHES, SMALL, LargeLost, PacketSizes

SECONDS = 3.0
ROUND_TRIP = 0.01
ROAD = ("vpc", "public")


@dataclass
class Way:
    """What one member's road carries there and back; None: nothing."""

    there: int | None = None
    back: int | None = None
    full: int = 1500
    deaf_once: bool = False  # does not answer the first time, whatever the size


@dataclass
class Roads:
    """Instead of TCP."""

    ways: dict[str, Way]
    asked: Counter[str] = field(default_factory=Counter)
    most: int = 0
    _now: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def talk(
        self,
        overlay: str,
        _port: int,
        seconds: float,
        *,
        largest: int | None = None,
        pieces: bool = False,
    ) -> Answer:
        way = self.ways[overlay]
        with self._lock:
            self.asked[overlay] += 1
            self._now[overlay] += 1
            self.most = max(self.most, self._now[overlay])
            deaf, way.deaf_once = way.deaf_once, False
        time.sleep(0.0005)  # so that those that are meant to be at once are
        with self._lock:
            self._now[overlay] -= 1
        size = min(way.full, largest or way.full)
        there = SMALL if pieces else size
        if deaf or way.there is None or there > way.there:
            raise Stalled(size, sent=False, round_trip=ROUND_TRIP)
        if way.back is None or size > way.back:
            raise Stalled(size, sent=True, round_trip=ROUND_TRIP)
        return Answer("b", "192.0.2.1", there, size)


@contextmanager
def roads(*ways: Way) -> Iterator[tuple[Roads, list[str]]]:
    made = Roads({f"192.168.0.{number}": way for number, way in enumerate(ways, 1)})
    with mock.patch.object(packet_sizes, "talk", made.talk):
        yield made, list(made.ways)


def lost(sizes: PacketSizes, overlay: str) -> tuple[int, str, int | None]:
    with pytest.raises(LargeLost) as caught:
        sizes.reach(overlay, ROAD)
    assert caught.value.answer.id == "b"
    return caught.value.full, caught.value.way, caught.value.largest


def test_a_road_that_carries_all_is_asked_once() -> None:
    with roads(Way(9001, 9001, full=9001)) as (made, (b,)):
        assert PacketSizes(1, SECONDS).reach(b, ROAD).there == 9001
        assert made.asked[b] == 1


@given(full=st.integers(SMALL + 1, 9216), data=st.data())
def test_the_largest_that_passes_is_found_to_the_byte(full: int, data: st.DataObject) -> None:
    """By a bounded number of questions, never too many at once, within a bounded time."""
    there = data.draw(st.integers(SMALL, full))
    back = data.draw(st.integers(SMALL, full if there < full else full - 1))
    way = "both" if there < full and back < full else "there" if there < full else "back"
    with roads(Way(there, back, full)) as (made, (b,)):
        assert lost(PacketSizes(1, SECONDS), b) == (full, way, min(there, back))
        assert made.asked[b] <= 2 + ROUNDS * AT_ONCE
        assert made.most <= AT_ONCE < responder._PER_SOURCE


def test_a_member_that_answers_nothing_is_not_blamed_on_the_road() -> None:
    with roads(Way()) as (made, (b,)):
        with pytest.raises(Stalled):
            PacketSizes(1, SECONDS).reach(b, ROAD)
        assert made.asked[b] == 2


def test_one_that_was_slow_once_is_not_blamed_on_the_road() -> None:
    with roads(Way(1500, 1500, deaf_once=True)) as (_, (b,)), pytest.raises(Stalled):
        PacketSizes(1, SECONDS).reach(b, ROAD)


def test_a_thousand_members_behind_one_road_cost_one_search() -> None:
    """And each of the others two questions."""
    ways = [Way(1400, 1400) for _ in range(1000)]
    with roads(*ways) as (made, everybody), ThreadPoolExecutor(32) as pool:
        sizes = PacketSizes(1, SECONDS)
        found = list(pool.map(lambda one: lost(sizes, one), everybody))
        assert set(found) == {(1500, "both", 1400)}
        searched = [one for one in everybody if made.asked[one] > 5]
        assert len(searched) == 1
        later = [one for one in everybody if made.asked[one] == 2]
        assert len(later) > 900


def test_who_is_reached_by_full_packets_beside_such_a_road_is_well() -> None:
    with roads(Way(1400, 1400), Way(1500, 1500), Way(1500, 1300), Way()) as (made, members):
        narrow, well, narrower, silent = members
        sizes = PacketSizes(1, SECONDS)
        assert lost(sizes, narrow) == (1500, "both", 1400)
        assert sizes.reach(well, ROAD).there == 1500
        assert lost(sizes, narrower) == (1500, "back", 1300)
        with pytest.raises(Stalled):
            sizes.reach(silent, ROAD)
        assert sizes.reach(well, ("vpc", "encrypted")).there == 1500
        assert made.asked[well] == 3


def test_after_some_searches_no_more_are_made_on_a_road() -> None:
    ways = [Way(size, size) for size in (1400, 1300, 1200, 1100, 1000)]
    with roads(*ways) as (made, members):
        sizes = PacketSizes(1, SECONDS)
        found = [lost(sizes, one)[2] for one in members]
        assert found == [1400, 1300, 1200, None, None]
        assert SEARCHES == 3
        assert made.asked[members[-1]] <= 4


def test_a_busy_member_is_given_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """By how long small packets took: what passes slowly is not lost."""
    given: list[float] = []

    def talk(
        _overlay: str, _port: int, seconds: float, *, largest: int | None = None, **_: bool
    ) -> Answer:
        size = largest or 1500
        if size > 1400:
            raise Stalled(size, sent=True, round_trip=ROUND_TRIP)
        if size == SMALL:
            time.sleep(0.2)
        else:
            given.append(seconds)
        return Answer("b", "192.0.2.1", size, size)

    monkeypatch.setattr(packet_sizes, "talk", talk)
    assert lost(PacketSizes(1, SECONDS), "192.168.0.1") == (1500, "back", 1400)
    assert min(given) >= 1.5
