"""What 'neti registry check' says of hosts' records, from the tree alone."""

from ipaddress import IPv4Address
from typing import Any, Final

from kazoo.security import ACL, Id

from neti.registry.record import HostRecord
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.check_judge import judge_tree
from neti.registry.zookeeper.check_records import judge_records
from neti.registry.zookeeper.check_tree import Tree
from neti.registry.zookeeper.finding import Finding
from neti.registry.zookeeper.layout import Layout

LAYOUT: Final = Layout.below(
    "/neti",
    iptoid="ip-to-id",
    idtoip="id-to-ip",
    ip_map="ip-map",
    interval="interval",
    maxchange="maxchange",
)
CHIEF: Final = "CN=chief,OU=operators"
CLOSED: Final = rights.closed([CHIEF], members=rights.READ | rights.CREATE)
ENTRY: Final = "1.0a000001c6336401c0a80001.1.ec2.a"
FORMER: Final = "1.0a000002c6336401c0a80001.0.ec2.a"
FORGED: Final = "1.0a000009c6336401c0a80001.2.ec2.a"


def of_host(subject: str, *, may: int = rights.READ | rights.WRITE) -> list[ACL]:
    return rights.of_child(CLOSED, also=may, owner=Id("x509", subject))


def tree(records: dict[str, HostRecord | None], acls: dict[str, Any], **parts: Any) -> Tree:
    nothing: dict[str, Any] = {
        "by_overlay": {},
        "by_id": dict.fromkeys(records),
        "names": (),
        "agents": frozenset(records),
        "sessions": {},
        "below": {},
        "unread": frozenset(),
        "misnamed": (),
        "clock_ahead": None,
    }
    every = {**dict.fromkeys(LAYOUT.parents(), CLOSED), **acls}
    return Tree(layout=LAYOUT, records=records, acls=every, **{**nothing, **parts})


def codes(found: list[Finding]) -> list[tuple[str, str]]:
    return [(one.code, one.where) for one in found]


SAID: Final = HostRecord(word=ENTRY)


def test_a_record_as_agents_make_it_is_nothing_to_speak_of() -> None:
    acls = {"/neti/hosts/a": of_host("CN=a"), "/neti/hosts/b": of_host("CN=b")}
    assert judge_records(tree({"a": SAID, "b": SAID}, acls)) == []


def test_a_record_that_others_may_write_or_its_owner_delete_proves_nothing() -> None:
    grasping = [ACL(rights.ALL, Id("x509", "CN=r")), *rights.READ_ONLY]
    acls = {
        "/neti/hosts/d": of_host("CN=d", may=rights.WRITE | rights.DELETE),
        "/neti/hosts/c": of_host("CN=c", may=rights.WRITE | rights.CREATE),
        "/neti/hosts/w": [*of_host("CN=w"), ACL(rights.WRITE, Id("world", "anyone"))],
        "/neti/hosts/r": grasping,
    }
    found = judge_records(tree(dict.fromkeys("dcwr", SAID), acls))
    assert codes(found) == [("record-rights", f"/neti/hosts/{i}") for i in "dcwr"]
    assert [one.severity for one in found] == ["fault"] * 4
    assert [one.command() for one in found] == [
        "neti registry admit d CN=d",
        "neti registry admit c CN=c",
        "neti registry admit w CN=w",
        "neti registry remove /neti/hosts/r",
    ]


def test_a_certificate_that_two_records_belong_to_is_no_identity() -> None:
    acls = {f"/neti/hosts/{i}": of_host("CN=golden") for i in "ab"}
    (found,) = judge_records(tree({"a": SAID, "b": SAID}, acls))
    assert (found.severity, found.code, found.where) == (
        "fault",
        "shared-certificate",
        "CN=golden",
    )
    assert "2 hosts (a, b)" in found.sentence


def test_a_record_and_a_lease_of_different_certificates_are_named() -> None:
    acls = {"/neti/hosts/a": of_host("CN=a"), "/neti/id-to-ip/a": of_host("CN=r", may=0)}
    found = judge_tree(tree({"a": SAID}, acls), secure=True)
    (owners,) = [one for one in found if one.code == "owners"]
    assert "/neti/hosts/a belongs to CN=a; /neti/id-to-ip/a belongs to CN=r" in owners.sentence


def test_an_entry_beside_the_one_that_the_record_names_is_forged() -> None:
    """A former one is of the same session and older; a later one somebody else made there."""
    acls = {
        "/neti/hosts/a": of_host("CN=a"),
        f"/neti/ip-map/{FORGED}": [ACL(rights.READ, Id("world", "anyone"))],
    }
    names = (ENTRY, FORMER, FORGED)
    for session in (1, 2):
        sessions = {f"/neti/ip-map/{name}": 1 for name in (ENTRY, FORMER)}
        sessions[f"/neti/ip-map/{FORGED}"] = session
        one = tree({"a": SAID}, acls, names=names, sessions=sessions, vouched={"a": ENTRY})
        (found,) = judge_records(one)
        assert (found.code, found.where) == ("forged", f"/neti/ip-map/{FORGED}")
        assert found.sentence.endswith("Its maker hides")


def test_whom_a_forged_entry_belongs_to_is_its_makers_choice() -> None:
    acls = {
        "/neti/hosts/a": of_host("CN=a"),
        f"/neti/ip-map/{FORGED}": of_host("CN=innocent", may=0),
    }
    sessions = {f"/neti/ip-map/{ENTRY}": 1, f"/neti/ip-map/{FORGED}": 2}
    one = tree({"a": SAID}, acls, names=(ENTRY, FORGED), sessions=sessions, vouched={"a": ENTRY})
    (found,) = judge_records(one)
    assert found.sentence.endswith("Its rights name CN=innocent, as its maker chose")


def test_entries_of_a_host_that_is_gone_are_nobodys_when_they_are_anothers_or_many() -> None:
    acls = {"/neti/hosts/a": of_host("CN=a"), f"/neti/ip-map/{FORGED}": of_host("CN=r", may=0)}
    many = [f"1.0a000001c6336401c0a80001.{number}.ec2.a" for number in range(10, 40)]
    acls |= {f"/neti/ip-map/{name}": of_host("CN=a", may=0) for name in (ENTRY, *many)}

    def found(said: HostRecord, *names: str) -> list[tuple[str, str]]:
        sessions = {f"/neti/ip-map/{name}": 2 for name in names}
        return codes(judge_records(tree({"a": said}, acls, names=names, sessions=sessions)))

    assert found(SAID, FORGED) == [("forged", f"/neti/ip-map/{FORGED}")]
    assert len(found(SAID, *many)) == len(many)
    assert found(SAID, ENTRY) == []  # an agent of a version before records may have made it
    assert found(HostRecord(), FORGED) == []


def test_a_lease_that_a_member_may_write_is_a_fault() -> None:
    held = {i: IPv4Address(f"192.168.0.{n}") for n, i in enumerate("ab", 1)}
    acls = {
        path: of_host(f"CN={i}", may=rights.WRITE if i == "b" else 0)
        for i in held
        for path in (f"/neti/id-to-ip/{i}", f"/neti/ip-to-id/{held[i]}")
    }
    one = tree({}, acls, by_id=held, by_overlay={o: i for i, o in held.items()})
    assert [(each.severity, each.code, each.command()) for each in judge_records(one)] == [
        ("fault", "lease-rights", "neti registry admit b CN=b"),
        ("fault", "lease-rights", "neti registry admit b CN=b"),
    ]


def test_formats_and_hosts_that_never_came_are_counted() -> None:
    """``c`` was here; the record of ``e`` was made for a lease that it had before."""
    every = {"a": None, "b": HostRecord(), "c": HostRecord(word="left.0.c"), "d": HostRecord()}
    every["e"] = HostRecord(overlay=IPv4Address("192.168.0.9"))
    acls = {f"/neti/hosts/{i}": of_host(f"CN={i}") for i in every}
    found = judge_records(tree(every, acls, by_id=dict.fromkeys("abe"), agents=frozenset()))
    assert [(one.severity, one.code) for one in found] == [
        ("warning", "record-format"),
        ("note", "not-here-yet"),
    ]
    assert "1 record is in a format" in found[0].sentence
    assert "2 records are of hosts that have not registered (b, d)" in found[1].sentence


def test_a_record_that_ends_with_a_session_and_an_unfinished_init_are_faults() -> None:
    acls = {"/neti/hosts/a": of_host("CN=a")}
    found = judge_records(tree({"a": SAID}, acls, sessions={"/neti/hosts/a": 7}, unfinished=True))
    assert [(one.severity, one.code, one.command()) for one in found] == [
        ("fault", "unfinished", "neti registry init"),
        ("fault", "record-session", "neti registry remove /neti/hosts/a"),
    ]


def test_where_there_are_no_rights_owners_say_nothing() -> None:
    acls = dict.fromkeys((*LAYOUT.parents(), "/neti/hosts/a"), rights.OPEN)
    assert judge_records(tree({"a": SAID}, acls)) == []


def test_leases_that_belong_to_nobody_are_named_with_the_way_to_give_them_away() -> None:
    of_nobody = [entry for entry in CLOSED if entry.perms == rights.ALL] + list(rights.READ_ONLY)
    held = {i: IPv4Address(f"192.168.0.{n}") for n, i in enumerate("abc", 1)}
    acls = {
        path: of_nobody
        for i in "ab"
        for path in (f"/neti/id-to-ip/{i}", f"/neti/ip-to-id/{held[i]}")
    }
    acls |= {
        path: of_host("CN=c", may=0) for path in ("/neti/id-to-ip/c", "/neti/ip-to-id/192.168.0.3")
    }
    acls["/neti/hosts/a"] = of_host("CN=a")
    one = tree({"a": SAID}, acls, by_id=held, by_overlay={o: i for i, o in held.items()})
    found = judge_records(one)
    assert [(each.severity, each.code, each.command()) for each in found] == [
        ("warning", "lease-of-nobody", "neti registry admit a CN=a"),
        ("warning", "lease-of-nobody", "neti registry admit b SUBJECT"),
    ]
    assert "1 lease belongs to no certificate (a)" in found[0].sentence
    assert "whoever registers first" in found[1].sentence
