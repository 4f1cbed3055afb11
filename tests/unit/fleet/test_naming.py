"""Who is called what when somebody with a certificate wants another host's word."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.fleet import listing
from neti.fleet.naming import CLIENT_NAMES, Words, contests
from neti.model import Member
from neti.registry.detail import Document

ADDRESSES = {f"192.168.0.{number}" for number in range(256)}


def called(
    hosts: Sequence[tuple[str, str | None]],
    *,
    absent: Sequence[str] = (),
    young: Sequence[str] = (),
    pinned: Mapping[str, str] | None = None,
    domain: str | None = None,
) -> tuple[dict[str, str], list[str], list[listing.Row], Words]:
    """By id what each is called, and what is said. ``hosts``: id and name, the one with the oldest
    lease first; ``absent``, ``young``: ids with a lease only, older and younger than all."""
    members = {
        host_id: Member(
            id=host_id,
            site="ec2",
            private=IPv4Address("10.0.0.1") + number,
            public=None,
            overlay=IPv4Address("192.168.0.1") + number,
        )
        for number, (host_id, _) in enumerate(hosts)
    }
    leases = {IPv4Address("192.168.7.0") + n: i for n, i in enumerate(absent)}
    leases |= {one.overlay: one.id for one in members.values()}
    leases |= {IPv4Address("192.168.8.0") + n: i for n, i in enumerate(young)}
    words = Words(taken=("ec2",), leases=leases, pinned=pinned or {}, domain=domain)
    told = {host_id: Document(name=name) for host_id, name in hosts if name is not None}
    rows = listing.rows(members, told, words=words)
    return {row["id"]: row["name"] for row in rows}, list(contests(rows, words)), rows, words


def test_who_leases_the_name_of_another_host_as_its_id_does_not_get_it() -> None:
    names, said, rows, _ = called([("i-0bbb", "db-1"), ("db-1", "db-1")])
    assert names == {"i-0bbb": "db-1", "db-1": "192.168.0.2"}
    assert said == ["db-1 is the name of i-0bbb (192.168.0.1); db-1 cannot be called so too"]
    assert listing.hosts_lines(rows) == (["192.168.0.1\tdb-1"], ["db-1"])
    inventory, left_out = listing.inventory(rows)
    assert inventory["_meta"]["hostvars"].keys() == {"db-1"}
    assert inventory["_meta"]["hostvars"]["db-1"]["ansible_host"] == "192.168.0.1"
    assert left_out == ["db-1"]
    (target,) = [t for t in listing.targets(rows) if t["labels"]["host"] == "db-1"]
    assert target["targets"] == ["192.168.0.1"]


def test_a_lease_alone_takes_no_name_away() -> None:
    assert called([("i-0bbb", "db-1")], young=["db-1"])[:2] == ({"i-0bbb": "db-1"}, [])


def test_the_id_of_an_absent_host_is_not_free() -> None:
    names, said, _, _ = called([("i-0bbb", "web-1")], absent=["web-1"])
    assert names == {"i-0bbb": "i-0bbb"}
    assert "web-1 is another host's id" in said[0]


def test_no_name_takes_the_word_of_a_host_that_is_known_by_its_id() -> None:
    """However old the lease of the one that says it."""
    older = called([("old", "web-9"), ("web-9", None)])
    assert older[0] == {"old": "old", "web-9": "192.168.0.2"}
    assert older[1] == ["web-9 is claimed by 2 hosts, so none of them is called so: old, web-9"]
    younger = called([("web-9", None), ("new", "web-9")])
    assert younger[0] == {"new": "new", "web-9": "web-9"}
    assert younger[1] == ["web-9 is the name of web-9 (192.168.0.1); new cannot be called so too"]


@pytest.mark.parametrize("order", [1, -1])
def test_an_instance_id_is_nobody_elses_name(order: int) -> None:
    hosts = [("i-0aaa", "i-0bbb"), ("i-0bbb", "db-1")][::order]
    assert called(hosts)[0] == {"i-0aaa": "i-0aaa", "i-0bbb": "db-1"}
    assert called([("i-0aaa", "i-0ccc")])[0] == {"i-0aaa": "i-0aaa"}


def test_ids_that_differ_in_case_only_belong_to_the_older() -> None:
    names, said, rows, _ = called([("db-1", None), ("DB-1", None)])
    assert names == {"db-1": "db-1", "DB-1": "192.168.0.2"}
    assert said == ["DB-1 is the name of db-1 (192.168.0.1); DB-1 cannot be called so too"]
    assert listing.hosts_lines(rows) == (["192.168.0.1\tdb-1"], ["DB-1"])


def test_what_two_say_is_neithers_and_is_told() -> None:
    names, said, _, _ = called([("a", "db-1"), ("b", "DB-1")])
    assert names == {"a": "a", "b": "b"}
    assert said == ["db-1 is claimed by 2 hosts, so none of them is called so: a, b"]


def test_what_the_operator_says_counts() -> None:
    hosts = [("i-0aaa", "db-1"), ("i-0bbb", "db-1"), ("db-1", None)]
    names, _, _, _ = called(hosts, pinned={"db-1": "i-0bbb"})
    assert names == {"i-0aaa": "i-0aaa", "i-0bbb": "db-1", "db-1": "192.168.0.3"}
    names, said, _, _ = called(hosts, pinned={"db-1": "i-0fff"})
    assert "db-1" not in names.values()
    assert "db-1 is the name of a host that is not listed" in said[0]


def test_a_name_in_the_domain_is_the_name_without_it() -> None:
    hosts = [("i-0aaa", "db-1"), ("db-1.example.com", None), ("i-0bbb", "web.example.com")]
    names, said, rows, _ = called(hosts, domain="example.com")
    assert names["i-0aaa"] == "db-1"
    assert len(said) == 1
    assert listing.hosts_lines(rows, "example.com") == (
        ["192.168.0.1\tdb-1", "192.168.0.3\tweb.example.com"],
        ["db-1.example.com"],
    )


@pytest.mark.parametrize(
    "name", [*CLIENT_NAMES, "WPAD", "ldap.example.com", "a.b.example.com", "x.example.org"]
)
def test_a_hosts_file_gives_no_name_that_programs_look_up_by_themselves(name: str) -> None:
    rows = called([("i-0bbb", name)], domain="example.com")[2]
    assert listing.hosts_lines(rows, "example.com") == (["192.168.0.1\ti-0bbb"], [])
    rows = called([(name[:40], None)], domain="example.com")[2]
    assert listing.hosts_lines(rows, "example.com")[0] == []


def test_the_operator_may_give_it() -> None:
    rows = called([("i-0bbb", "x"), ("i-0ccc", "puppet")], pinned={"puppet": "i-0bbb"})[2]
    lines, _ = listing.hosts_lines(rows, allowed=("puppet",))
    assert lines == ["192.168.0.2\ti-0ccc", "192.168.0.1\tpuppet"]


HOSTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "A", "i-0a", "i-0b", "ec2", "x.example.com", "x"]),
        st.none() | st.sampled_from(["a", "b", "B", "i-0a", "x", "x.example.com", "ec2", "wpad"]),
    ),
    max_size=6,
    unique_by=lambda host: host[0],
)


@given(HOSTS, st.none() | st.just("example.com"))
def test_no_word_is_two_hosts_and_who_is_not_called_so_is_named(
    hosts: list[tuple[str, str | None]], domain: str | None
) -> None:
    names, said, rows, words = called(hosts, domain=domain)
    keys = [words.key(name) for name in names.values()]
    assert len(set(keys)) == len(keys)
    for host_id, name in hosts:
        assert names[host_id] in {host_id, name} | ADDRESSES
        own = name is None or words.key(name) == words.key(host_id)
        if names[host_id] != (host_id if own else name):
            assert any(host_id in sentence for sentence in said)
    lines, _ = listing.hosts_lines(rows, domain)
    written = [words.key(line.split("\t")[1]) for line in lines]
    assert len(set(written)) == len(written)


@given(HOSTS, st.integers(0, 5))
def test_whoever_comes_last_gets_no_word_that_somebody_had(
    hosts: list[tuple[str, str | None]], at: int
) -> None:
    """The last one's lease is the youngest: it may take a word from others, but not get it."""
    if not hosts:
        return
    before = called(hosts[:-1])[0]
    host_id = hosts[-1][0]
    word = called(hosts)[0][host_id].lower()
    assert word not in {name.lower() for name in before.values()} | {
        other.lower() for other, _ in hosts[:-1]
    }
