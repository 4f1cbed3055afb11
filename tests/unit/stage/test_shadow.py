"""The shadow's account of the kernel's counters: nothing twice, nothing lost, no bound broken."""

import json
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from neti.stage.losses import Loss, losses
from neti.stage.record import KEEP_SECONDS, Missed, Record
from neti.stage.shadow import Listener, Port, Sighting, is_private, parse_port, port_name

DAY = 86_400.0
NOW = 1_800_000_000.0
WEB: Port = ("tcp", 80)


def sighting(
    source: str = "10.0.0.66", packets: int = 1, port: int = 80, idle: float = 0.0
) -> Sighting:
    return Sighting(ip_address(source), "tcp", port, packets, idle)


def packets(record: Record, source: str = "10.0.0.66", port: Port = WEB) -> int:
    return record.ports[port].sources[ip_address(source).packed].packets


def taken(*looks: list[Sighting], most: int = 65_536) -> Record:
    """A record after these looks, 30 s apart, the last one at NOW."""
    record = Record(NOW - DAY, most=most)
    for ago, look in zip(reversed(range(len(looks))), looks, strict=True):
        record.take(look, NOW - 30.0 * ago)
    return record


# --- counting ---


@pytest.mark.parametrize(
    ("counters", "total"),
    [
        ([3], 3),
        ([3, 3, 3], 3),  # looking is not counting
        ([3, 5], 5),
        ([3, 2], 5),  # less than before: another element
        ([3, None, 3], 6),  # gone and back: another element
        ([3, None, 4], 7),
        ([5, None, None, 1, 2], 7),
    ],
)
def test_counters_are_summed_up(counters: list[int | None], total: int) -> None:
    """None: the element was not there at that look."""
    record = taken(*([] if count is None else [sighting(packets=count)] for count in counters))
    assert packets(record) == total


def test_sets_that_we_emptied_begin_at_nothing() -> None:
    """After a replacement a counter that has outgrown its old self already is all news."""
    record = taken([sighting(packets=3)])
    record.emptied()
    record.take([sighting(packets=7)], NOW + 30)
    assert packets(record) == 10


def test_first_and_last_are_when_the_packets_came() -> None:
    """By the kernel's own clock, not by when somebody looked."""
    record = Record(NOW)
    record.take([sighting(packets=1, idle=100.0)], NOW)
    record.take([sighting(packets=1, idle=130.0)], NOW + 30)
    record.take([sighting(packets=2, idle=4.0)], NOW + 60)
    seen = record.ports[WEB].sources[ip_address("10.0.0.66").packed]
    assert (seen.first, seen.last) == (NOW - 100, NOW + 56)


def test_both_families_and_all_ports_are_apart() -> None:
    """A source, a protocol and a port each make a record of their own."""
    other = Sighting(ip_address("fd00:5::66"), "udp", 80, 1, 0.0, forwarded=True)
    record = taken([sighting(), sighting(port=81), sighting("10.0.0.67"), other])
    assert len(record) == 4
    assert record.ports["udp", 80].forwarded
    assert not record.ports[WEB].forwarded


class Kernel(RuleBasedStateMachine):
    """Packets, looks, writes, sets that are emptied or end, kills: what the record has counted is
    what came, but for what came and was never looked at. It never counts more."""

    sources = st.sampled_from(["10.0.0.1", "198.51.100.2", "2001:db8::3"])

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.record = Record(self.now)
        self.written: list[dict[str, Any]] = []
        self.kernel: dict[str, int] = {}  # counters as they are
        self.came: dict[str, int] = {}  # all packets ever
        self.exact = True  # nothing was lost to a kill yet
        self.unwritten = False  # elements ended since the last write

    @rule(source=sources, count=st.integers(1, 5))
    def packets_come(self, source: str, count: int) -> None:
        self.kernel[source] = self.kernel.get(source, 0) + count
        self.came[source] = self.came.get(source, 0) + count

    @rule()
    def look(self) -> None:
        self.now += 30
        self.record.take([sighting(s, n) for s, n in self.kernel.items()], self.now)
        for source, count in self.came.items():
            assert self.counted(source) <= count
            assert self.counted(source) == count or not self.exact

    @rule()
    def write(self) -> None:
        changes = self.record.changes()
        if changes:
            self.written.append(json.loads(json.dumps(changes)))
        self.unwritten = False

    @rule()
    def our_replacement(self) -> None:
        self.look()
        self.write()
        self.kernel = {}
        self.record.emptied()
        self.unwritten = True

    @rule(source=sources)
    def element_ends(self, source: str) -> None:
        """An hour without a packet: looks see its last counter, and then that it is gone."""
        self.look()
        if self.kernel.pop(source, None) is not None:
            self.look()
            self.unwritten = True

    @rule()
    def kill(self) -> None:
        """The next start has what was written, and the kernel's counters."""
        self.exact = self.exact and not self.unwritten
        self.record = Record(self.now)
        for document in self.written:
            self.record.restore(document)
        self.look()

    def counted(self, source: str) -> int:
        use = self.record.ports.get(WEB)
        seen = use.sources.get(ip_address(source).packed) if use else None
        return seen.packets if seen else 0


TestKernel = Kernel.TestCase


# --- the bounds ---


def test_fourteen_days_after_the_last_packet_it_is_forgotten() -> None:
    """Two Sundays' cron job is remembered, the third would be another story."""
    record = taken([sighting("10.0.0.1"), sighting("10.0.0.2")], [sighting("10.0.0.1", 2)])
    record.take([], NOW + KEEP_SECONDS - 60)
    assert len(record) == 2
    record.forget(NOW + KEEP_SECONDS - 15)
    assert len(record) == 1
    record.take([], NOW + KEEP_SECONDS + 3600)
    assert len(record) == 0
    assert record.ports == {}


def test_a_clock_that_was_ahead_keeps_nothing_for_ever() -> None:
    """Seen in a future that never was: counts from when that is noticed."""
    record = Record(NOW)
    record.take([sighting()], NOW + 3650 * DAY)
    record.take([], NOW)
    record.forget(NOW + KEEP_SECONDS)
    assert len(record) == 0


def test_what_the_kernel_still_shows_does_not_come_back_by_being_shown() -> None:
    """An old counter is no new packet."""
    record = taken([sighting(idle=100.0)])
    record.forget(NOW + KEEP_SECONDS)
    record.take([sighting(idle=100.0)], NOW + KEEP_SECONDS + 30)
    assert len(record) == 0
    record.take([sighting(packets=2)], NOW + KEEP_SECONDS + 60)
    assert packets(record) == 1


def test_noise_goes_first_and_the_oldest_of_it() -> None:
    """What stays is near, repeated, or goes where somebody listens."""
    keep = [
        sighting("10.0.0.1", 1, 9999),  # private
        sighting("8.8.8.8", 5, 9999),  # repeated
        sighting("8.8.4.4", 1, 443),  # somebody listens
        Sighting(IPv4Address("8.8.1.1"), "tcp", 8080, 1, 0.0, forwarded=True),
    ]
    noise = [sighting("9.9.9.9", 1, port, idle=float(port)) for port in range(1, 61)]
    record = Record(NOW, most=32)
    record.take([*noise, *keep], NOW, listening=lambda: {("tcp", 443)})
    assert len(record) == 30
    held = {(port[1], source) for port, use in record.ports.items() for source in use.sources}
    assert {(seen.port, seen.source.packed) for seen in keep} <= held
    noisy = sorted(number for number, source in held if source == IPv4Address("9.9.9.9").packed)
    assert noisy == list(range(1, 27))  # the latest


@pytest.mark.parametrize("flood", ["one port", "all ports", "private"])
def test_no_flood_takes_the_place_of_a_used_port(flood: str) -> None:
    """Each port where somebody listens keeps sources, whatever comes to others or from where."""
    user = Sighting(ip_address("203.0.113.9"), "tcp", 443, 1, 3000.0, heard=True)
    base = 0x0A000000 if flood == "private" else 0x08000000
    others = [
        Sighting(
            IPv4Address(base + each),
            "tcp",
            80 if flood == "one port" else each % 60000 + 1000,
            5,
            0.0,
            heard=flood == "one port",
        )
        for each in range(500)
    ]
    record = Record(NOW, most=200)
    record.take([user, *others], NOW, listening=lambda: {("tcp", 443), ("tcp", 80)})
    assert ("tcp", 443) in record.ports
    assert len(record) <= 200


def test_a_port_that_gets_a_listener_is_counted_on_exactly() -> None:
    """The kernel counts it in another room from then on, and the former count stays for an hour."""
    record = Record(NOW)
    record.take([sighting(packets=5)], NOW)
    heard = replace(sighting(packets=2), heard=True)
    record.take([sighting(packets=5), heard], NOW + 30)
    record.take([heard], NOW + 60)
    assert packets(record) == 7
    copy = Record(0.0)
    copy.restore(json.loads(json.dumps(record.snapshot())))
    copy.take([replace(heard, packets=3)], NOW + 90)
    assert packets(copy) == 8


def test_a_kernel_that_does_not_count_tells_by_time() -> None:
    """Packets 0 for ever: another one is known by when it came."""
    record = Record(NOW)
    for after, idle in ((0, 10.0), (30, 40.0), (60, 5.0), (90, 35.4), (120, 1.0)):
        record.take([sighting(packets=0, idle=idle)], NOW + after)
    assert packets(record) == 3
    seen = record.ports[WEB].sources[ip_address("10.0.0.66").packed]
    assert (seen.first, seen.last) == (NOW - 10, NOW + 119)


def test_without_counters_the_time_is_kept_to_the_moment() -> None:
    """A packet right after another may not be told from it, but a trial that began in between must
    see that it came: so the time moves on."""
    record = Record(NOW)
    record.take([sighting(packets=0, idle=10.3)], NOW + 10)
    record.take([sighting(packets=0, idle=9.5)], NOW + 10)
    assert packets(record) == 1
    lost = losses(record, [NGINX], (), NOW).lost
    assert [loss.port for loss in lost] == [80]


def test_a_counter_that_is_read_before_it_counts_is_counted_once() -> None:
    """An element that was made a moment ago may show no packet yet."""
    record = Record(NOW)
    record.take([sighting(packets=0, idle=0.0)], NOW)
    record.take([sighting(packets=1, idle=30.0)], NOW + 30)
    assert packets(record) == 1
    record.take([sighting(packets=4, idle=0.0)], NOW + 60)
    assert packets(record) == 4


def test_what_found_no_room_is_said_for_an_hour() -> None:
    """An old count is no news at the first look, unless the room is full now; a new table counts
    from nothing."""
    missed = Missed()
    missed.look(70, NOW, full=False)
    assert not missed.since(NOW)
    missed.look(75, NOW + 30, full=True)
    assert missed.packets == 5
    missed.look(2, NOW + 60, full=True)
    assert missed.packets == 7
    missed.look(2, NOW + 90, full=False)
    assert missed.since(NOW + 60 + 3600)
    assert not missed.since(NOW + 61 + 3600)
    begun = Missed()
    begun.look(70, NOW, full=True)
    assert begun.since(NOW)


@given(st.lists(st.lists(st.integers(0, 200), max_size=80), max_size=6))
def test_the_bound_holds_whatever_comes(looks: list[list[int]]) -> None:
    """The record never outgrows its bound, and its count is right."""
    record = Record(NOW, most=50)
    for number, look in enumerate(looks):
        seen = [sighting(str(IPv4Address(0x08000000 + host)), 1, host % 7) for host in set(look)]
        record.take(seen, NOW + 30 * number)
        assert len(record) <= 50
        assert len(record) == sum(len(use.sources) for use in record.ports.values())


# --- plain values ---


@given(
    st.lists(
        st.builds(
            Sighting,
            st.ip_addresses(),
            st.sampled_from(["tcp", "udp", "sctp"]),
            st.integers(0, 65535),
            st.integers(1, 2**60),
            st.floats(0, 3600),
            st.booleans(),
            st.none() | st.integers(1, 65535),
        ),
        max_size=30,
        unique_by=lambda seen: (seen.source, seen.protocol, seen.port),
    )
)
def test_a_snapshot_restores_to_the_same(seen: list[Sighting]) -> None:
    """Through JSON and back, whole or as the changes it is made of."""
    record = Record(NOW)
    copy = Record(0.0)
    for half in (seen[::2], seen):
        record.take(half, NOW)
        changes = record.changes()
        if changes:
            copy.restore(json.loads(json.dumps(changes)))
    again = Record(0.0)
    again.restore(json.loads(json.dumps(record.snapshot())))
    assert again.snapshot() == record.snapshot()
    assert not seen or copy.snapshot() == record.snapshot()
    assert len(again) == len(record)


def test_nothing_changed_is_nothing_to_write() -> None:
    """Looking again without news leaves the disk alone."""
    record = taken([sighting()])
    assert record.changes()
    record.take([sighting(idle=60.0)], NOW + 30)
    assert record.changes() == {}


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"since": "yesterday", "ports": {}},
        {"since": NOW, "ports": {"80": {"forwarded": False, "redirected": None, "from": {}}}},
        {"since": NOW, "ports": {"80/tcp": {"from": {}}}},
        {
            "since": NOW,
            "ports": {"80/tcp": {"forwarded": 0, "redirected": None, "from": {"x": []}}},
        },
        {"since": NOW, "ports": []},
    ],
)
def test_nonsense_is_refused_whole(document: dict[str, Any]) -> None:
    """And what was known stays as it was."""
    record = taken([sighting()])
    before = record.snapshot()
    with pytest.raises(ValueError, match=r"."):
        record.restore(document)
    assert record.snapshot() == before


# --- words ---


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("10.1.2.3", True),
        ("172.15.255.255", False),
        ("172.16.0.1", True),
        ("172.32.0.1", False),
        ("192.168.1.1", True),
        ("192.0.2.66", False),
        ("100.64.0.1", True),
        ("100.128.0.1", False),
        ("169.254.1.1", True),
        ("fd00::1", True),
        ("fe80::1", True),
        ("2001:db8::1", False),
        ("ff02::1", False),
    ],
)
def test_private_is_what_no_internet_routes(address: str, private: bool) -> None:
    """The ranges of RFC 1918, 6598, 3927, 4193 and 4291."""
    assert is_private(ip_address(address).packed) is private


@given(st.sampled_from(["tcp", "udp"]), st.integers(0, 65535))
def test_a_port_reads_as_it_is_written(protocol: str, number: int) -> None:
    """In the spelling of open_ports."""
    assert parse_port(port_name((protocol, number))) == (protocol, number)


@pytest.mark.parametrize("text", ["", "80", "80/", "/tcp", "x/tcp", "65536/tcp", "-1/tcp", "²/tcp"])
def test_what_is_no_port_is_said(text: str) -> None:
    """With what was expected."""
    with pytest.raises(ValueError, match="such as 8080/tcp"):
        parse_port(text)


# --- losses ---

ANY = ip_address("0.0.0.0")
NGINX = Listener("tcp", 80, ANY, 1, 812, "nginx", "nginx.service")
TRIAL = NOW + 100


def trial(*after: Sighting, before: tuple[Sighting, ...] = ()) -> Record:
    """A record in which ``before`` was seen in the shadow and ``after`` since the trial began."""
    record = Record(NOW)
    record.take(before, NOW)
    record.emptied()
    record.take(after, TRIAL + 60)
    return record


def test_a_used_port_that_is_refused_is_lost() -> None:
    """Named with how many were refused, the latest of them, and who listens; a source that never
    came before counts too."""
    record = trial(
        sighting("10.0.0.9", idle=10.0),
        sighting("10.0.0.7", idle=5.0),
        before=(sighting("10.0.0.9"),),
    )
    lost = (Loss("tcp", 80, 2, (ip_address("10.0.0.7"), ip_address("10.0.0.9")), NGINX, False),)
    assert losses(record, [NGINX], (), TRIAL).lost == lost
    assert losses(record, [NGINX], {WEB}, TRIAL).accepted == lost
    assert losses(record, [NGINX], {("udp", 80)}, TRIAL).lost == lost


@pytest.mark.parametrize(
    ("before", "after", "listening", "where"),
    [
        ([sighting()], [], [NGINX], None),  # not refused since
        ([sighting()], [sighting(idle=61.0)], [NGINX], None),  # the last packet came before it
        ([sighting()], [sighting(idle=60.0)], [NGINX], "lost"),  # at that very moment
        ([sighting()], [sighting()], [], "nobody_listens"),
        ([], [sighting()], [NGINX], "not_used_before"),
        ([], [sighting()], [], "nobody_listens"),
        ([sighting()], [sighting()], [Listener("udp", 80, ANY)], "nobody_listens"),
        (
            [sighting()],
            [sighting()],
            [Listener("tcp", 80, ip_address("127.0.0.1"))],
            "nobody_listens",
        ),
        ([sighting()], [sighting()], [Listener("tcp", 80, ip_address("::"))], "lost"),
    ],
)
def test_what_speaks_against_a_trial_and_what_does_not(
    before: list[Sighting], after: list[Sighting], listening: list[Listener], where: str | None
) -> None:
    """Each port stands in the list that says why."""
    found = losses(trial(*after, before=tuple(before)), listening, (), TRIAL)
    listed = [kind for kind in found.__slots__ if getattr(found, kind)]
    assert listed == ([where] if where else [])


def test_a_container_s_port_is_listened_for() -> None:
    """No socket of this machine is needed."""
    seen = Sighting(ip_address("10.0.0.9"), "tcp", 8080, 1, 0.0, forwarded=True)
    found = losses(trial(seen, before=(seen,)), [], (), TRIAL)
    assert [(loss.port, loss.forwarded, loss.listener) for loss in found.lost] == [
        (8080, True, None)
    ]


def test_a_redirected_port_is_answered_by_the_socket_behind_it() -> None:
    """Bound to loopback or not; and not by one that has the port's own number."""
    seen = Sighting(ip_address("10.0.0.9"), "tcp", 80, 1, 0.0, redirected=8080)
    behind = Listener("tcp", 8080, ip_address("127.0.0.1"), 2)
    found = losses(trial(seen, before=(seen,)), [NGINX, behind], (), TRIAL)
    assert [loss.listener for loss in found.lost] == [behind]


_SEEN = st.builds(
    sighting,
    st.sampled_from(["10.0.0.1", "10.0.0.2", "8.8.8.8"]),
    st.integers(1, 9),
    st.integers(80, 84),
    st.floats(0, 200),
)
_LOOK = st.lists(_SEEN, max_size=10, unique_by=lambda seen: (seen.source, seen.port))


@given(_LOOK, _LOOK, st.sets(st.integers(80, 84)), st.sets(st.integers(80, 84)))
def test_every_refused_port_is_in_exactly_one_list(
    before: list[Sighting], after: list[Sighting], listening: set[int], accepted: set[int]
) -> None:
    """Nothing is left out without a word, and the lists say what they say of themselves."""
    record = trial(*after, before=tuple(before))
    sockets = [Listener("tcp", port, ANY, port) for port in listening]
    found = losses(record, sockets, {("tcp", port) for port in accepted}, TRIAL)
    every = [loss.port for kind in found.__slots__ for loss in getattr(found, kind)]
    refused = {
        port
        for (_, port), use in record.ports.items()
        if any(held.last >= TRIAL for held in use.sources.values())
    }
    assert sorted(every) == sorted(refused)
    used = {seen.port for seen in (*before, *(seen for seen in after if seen.idle > 60))}
    for loss in found.lost:
        assert loss.port in listening & used - accepted
    for loss in found.accepted:
        assert loss.port in listening & used & accepted
    for loss in found.not_used_before:
        assert loss.port in listening
        assert loss.port not in used
    for loss in found.nobody_listens:
        assert loss.port not in listening
