"""The account of who calls members by real addresses: nothing twice, nothing lost, bounded."""

import json
from collections.abc import Mapping
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.stage.leftovers import (
    GROUP_ENDED,
    KEEP_SECONDS,
    MOST_ROWS,
    Call,
    Leftovers,
    restored,
)

DB = IPv4Address("10.0.0.12")
OTHER = IPv4Address("10.0.0.99")


def call(
    packets: int,
    *,
    port: int = 5432,
    dest: IPv4Address = DB,
    group: int | None = None,
    idle: float = 0.0,
    raw: bytes | None = None,
) -> Call:
    key = raw if raw is not None else b"%d %d %s" % (port, group or 0, dest.packed)
    return Call(key, dest, "tcp", port, packets, idle, user=7, group=group)


def whose(wanted: set[bytes], _thought: Mapping[bytes, str]) -> dict[bytes, str]:
    return {packed: "db-1" for packed in wanted if packed == DB.packed}


def nobody(_wanted: set[bytes], _thought: Mapping[bytes, str]) -> dict[bytes, str]:
    return {}


def take(
    account: Leftovers, *calls: Call, now: float = 0.0, names: dict[int, str] | None = None
) -> None:
    found = names or {}
    account.take(calls, now, whose=whose, named=lambda wanted: found)


@given(st.lists(st.sampled_from(["call", "look", "restart", "replace"]), max_size=60))
def test_each_connection_is_counted_once(acts: list[str]) -> None:
    """Whatever happens between two looks: a restart of the agent goes on from what it wrote, and a
    table is looked at before it is replaced."""
    account, kernel, made = Leftovers(0.0), 0, 0

    def look() -> None:
        take(account, *([call(kernel)] if kernel else []))

    for act in acts:
        match act:
            case "call":
                kernel, made = kernel + 1, made + 1
            case "look":
                look()
            case "restart":
                account = restored(json.loads(json.dumps(account.snapshot())))
            case "replace":
                look()
                account.emptied()
                kernel = 0
    look()
    assert sum(row.calls for row in account.rows.values()) == made


def test_what_goes_to_nobody_waits_until_it_is_somebodys() -> None:
    """An agent that starts without the registry knows nobody yet; the kernel still counts."""
    account = Leftovers(0.0)
    calls = [call(3)]
    account.take(calls, 1.0, whose=nobody, named=lambda _: {})
    assert account.rows == {}
    take(account, *calls, now=2.0)
    assert [row.calls for row in account.rows.values()] == [3]


def test_a_host_that_has_gone_keeps_its_name() -> None:
    """After a restart nobody knows who had the address; the record does."""
    account = Leftovers(0.0)
    take(account, call(1))
    account = restored(account.snapshot())
    account.take([call(2)], 5.0, whose=nobody, named=lambda _: {})
    assert [(who.member, row.calls) for who, row in account.rows.items()] == [("db-1", 2)]


def test_who_had_an_address_is_believed_for_14_days_and_no_longer() -> None:
    """Somebody who is no member may have it since, and may be called for ever."""
    account = Leftovers(0.0)
    take(account, call(1))
    for day in range(1, 20):
        now = day * 86_400.0
        account.take([call(1 + day)], now, whose=nobody, named=lambda _: {})
    (row,) = account.rows.values()
    assert row.calls == 14


def test_calls_to_who_had_the_address_before_stay_theirs() -> None:
    account = Leftovers(0.0)
    take(account, call(1))
    account.take([call(3)], 1.0, whose=lambda _w, _t: {DB.packed: "db-2"}, named=lambda _: {})
    counted = {who.member: row.calls for who, row in account.rows.items()}
    assert counted == {"db-1": 1, "db-2": 2}


def test_a_group_keeps_its_name_and_one_that_ended_says_so() -> None:
    account = Leftovers(0.0)
    take(account, call(1, group=5), call(1, group=6), names={5: "/system.slice/app.service"})
    assert {caller.group for caller in account.rows} == {"/system.slice/app.service", GROUP_ENDED}


def test_a_unit_that_was_started_again_is_one_row() -> None:
    """Its group has another number then."""
    account, path = Leftovers(0.0), "/system.slice/app.service"
    take(account, call(2, group=5), call(3, group=6), names={5: path, 6: path})
    assert [row.calls for row in account.rows.values()] == [5]


def test_a_kernel_that_does_not_count_still_names() -> None:
    account = Leftovers(0.0)
    take(account, call(0))
    take(account, call(0))
    assert [row.calls for row in account.rows.values()] == [1]


def test_a_row_is_forgotten_after_14_days_and_a_clock_ahead_keeps_none_longer() -> None:
    account = Leftovers(0.0)
    take(account, call(1), now=10.0)
    take(account, now=10.0 + KEEP_SECONDS - 1)
    assert len(account.rows) == 1
    take(account, now=10.0 + KEEP_SECONDS)
    assert account.rows == {}
    take(account, call(1, raw=b"ahead"), now=1e9)
    take(account, now=20.0)
    take(account, now=20.0 + KEEP_SECONDS)
    assert account.rows == {}


def test_the_oldest_rows_go_first() -> None:
    account = Leftovers(0.0)
    for port in range(MOST_ROWS + 5):
        take(account, call(1, port=port), now=float(port))
    assert len(account.rows) == MOST_ROWS
    assert min(caller.port for caller in account.rows) == 5


KEYS = st.sampled_from(["since", "rows", "counters", "to"])
PLAIN = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
)


@given(st.dictionaries(KEYS, PLAIN))
def test_a_file_that_makes_no_sense_is_a_value_error(document: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        restored({**document, "rows": [document]})
