"""Lines of the hosts file that agents keep, and whose word for them is followed."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.fleet.names import followed, given_names, host_lines
from neti.model.entry import HOST_ID
from neti.model.names import Names
from neti.registry.names import encode

DB, WEB, OTHER = (IPv4Address(f"192.168.0.{n}") for n in (1, 2, 3))
SUFFIX = "neti.internal"
NOW = 1_900_000_000.0


def test_members_are_called_by_their_ids_inside_the_suffix_and_as_operators_say() -> None:
    names = Names(SUFFIX, {"db": "db-1", "mail.corp": "db-1", "gone": "x"})
    assert host_lines({"web-1": WEB, "db-1": DB}, names) == [
        "192.168.0.1\tdb-1.neti.internal db db.neti.internal mail.corp",
        "192.168.0.2\tweb-1.neti.internal",
    ]


def test_without_a_suffix_there_are_operators_names_alone() -> None:
    assert host_lines({"vault.corp": WEB, "db-1": DB}, Names("", {"db": "db-1"})) == [
        "192.168.0.1\tdb"
    ]


def test_an_id_gets_no_name_of_an_operator_even_while_its_host_is_away() -> None:
    names = Names(SUFFIX, {"db": "db-1", "cache.neti.internal": "x"})
    assert host_lines({"db": OTHER, "cache": WEB}, names) == []


def test_of_ids_that_differ_in_case_the_lower_one_has_the_name() -> None:
    names = Names(SUFFIX)
    assert host_lines({"DB-1": OTHER, "db-1": DB}, names) == ["192.168.0.1\tdb-1.neti.internal"]
    assert host_lines({"DB-1": OTHER, "Db-1": DB}, names) == []
    assert host_lines({"DB-1": OTHER, "WEB": WEB}, names) == [
        "192.168.0.2\tweb.neti.internal",
        "192.168.0.3\tdb-1.neti.internal",
    ]


def test_nobody_is_called_like_a_server_of_zookeepers() -> None:
    names = Names(SUFFIX, {"ZK".lower(): "db-1"})
    lines = host_lines({"db-1": DB, "zk-1": WEB}, names, ["ZK", "zk-1.neti.internal"])
    assert lines == ["192.168.0.1\tdb-1.neti.internal zk.neti.internal"]


_IDS = st.from_regex(HOST_ID, fullmatch=True)
_MORE = st.sampled_from(["vault.corp", "db", "DB", "db.neti.internal", "a..b", "x.-y", "1", "0x1"])


@given(st.dictionaries(_IDS | _MORE, st.ip_addresses(v=4), max_size=8))
def test_whatever_ids_are_each_line_is_one_address_and_names_inside_the_suffix(
    hosts: dict[str, IPv4Address],
) -> None:
    names = Names(SUFFIX, {"db": "db-1"})
    seen = list[str]()
    for line in host_lines(hosts, names):
        address, *words = line.split()
        assert IPv4Address(address) in hosts.values()
        seen += words
        own = set(given_names(names)) & set(words)
        assert all(word.endswith(f".{SUFFIX}") for word in set(words) - own)
        assert not own or "db-1" in hosts
    assert len(seen) == len(set(seen))


def test_an_earlier_edition_and_none_take_no_name_away() -> None:
    names = Names(SUFFIX, {"db": "db-1"}, 5)
    for raw in (None, encode(Names(SUFFIX, {}, 4)), encode(Names(SUFFIX, {}, 5)), b"{"):
        kept, why = followed(names, raw, NOW)
        assert kept == names
        assert why
    assert followed(names, encode(names), NOW) == (names, None)
    later = Names("", {}, 6)
    assert followed(names, encode(later), NOW) == (later, None)


@pytest.mark.parametrize("raw", [None, encode(Names())])
def test_who_never_heard_of_names_misses_none(raw: bytes | None) -> None:
    assert followed(Names(), raw, NOW) == (Names(), None)


@pytest.mark.parametrize("edition", [(1 << 53) - 1, 4_000_000_000])
def test_an_edition_that_no_command_makes_does_not_end_names(edition: int) -> None:
    """A member wrote it where there were no rights; agents keep it on their disks."""
    theirs = Names(SUFFIX, {"db": "x"}, edition)
    assert followed(Names(SUFFIX, {}, 5), encode(theirs), NOW) == (theirs, None)
    said = theirs.later(ids={"db": "db-1"}, now=NOW)
    assert said.edition == NOW
    assert followed(theirs, encode(said), NOW + 1) == (said, None)
    assert followed(theirs, None, NOW)[0] == theirs  # a wiped registry takes no name away
    assert followed(theirs, encode(Names(SUFFIX)), NOW)[0] == theirs


@pytest.mark.parametrize("now", [0.0, NOW - 30 * 86_400])
def test_a_clock_that_is_behind_makes_no_edition_doubtful(now: float) -> None:
    names = Names(SUFFIX, {"db": "db-1"}, int(1_800_000_000 if now == 0.0 else NOW))
    older = Names(SUFFIX, {}, names.edition - 1)
    assert followed(names, encode(older), now)[0] == names
    assert names.later(suffix="", now=now).edition == names.edition + 1
