"""Whom subjects of certificates mean, as lines of ids."""

from ipaddress import IPv4Address

import pytest

from neti.errors import NetiError
from neti.fleet import group_edits, group_subjects
from neti.fleet.groups import GroupIndex, taken_in
from neti.model import Member
from neti.model.groups import GroupLine, Groups

OWNERS = {"i-1": "CN=db-1,OU=db", "i-2": "CN=db-2,OU=db", "i-3": "CN=web-1,OU=web"}
DB = GroupLine("CN=*,OU=db")
NAMED = GroupLine("i-3")


def by(host_id: str, subject: str = DB.pattern) -> GroupLine:
    return GroupLine(host_id, by=subject)


def member(host_id: str, site: str = "dc") -> Member:
    return Member(
        id=host_id,
        site=site,
        private=IPv4Address("10.0.0.1"),
        public=None,
        overlay=IPv4Address("192.168.0.1"),
    )


def test_a_subject_means_the_ids_that_are_admitted_for_it() -> None:
    assert group_subjects.resolved((NAMED, DB), OWNERS, 0.0) == (DB, NAMED, by("i-1"), by("i-2"))
    # Who has another one now is in it no more; what an operator named stays.
    was = (DB, NAMED, by("i-2"), by("i-3"))
    assert group_subjects.resolved(was, {"i-1": "CN=x,OU=db"}, 0.0) == (DB, NAMED, by("i-1"))
    assert group_subjects.resolved((NAMED, by("i-1")), OWNERS, 0.0) == (NAMED,)


def test_the_whole_subject_has_to_fit() -> None:
    for pattern in ("CN=db-1", "CN=DB-1,OU=db", "OU=db", "CN=db-?"):
        line = GroupLine(pattern)
        assert group_subjects.resolved((line,), OWNERS, 0.0) == (line,)
    assert group_subjects.resolved((GroupLine("CN=db-?,OU=*"),), OWNERS, 0.0)[1:] == (
        by("i-1", "CN=db-?,OU=*"),
        by("i-2", "CN=db-?,OU=*"),
    )
    dots = GroupLine("CN=db.1,OU=db")  # no letter of it is a rule for others
    assert group_subjects.resolved((dots,), OWNERS, 0.0) == (dots,)


def test_site_and_end_are_those_of_the_subject_and_what_ended_takes_nobody_in() -> None:
    line = GroupLine("CN=*,OU=db", "vpc", 5.0)
    (_, one, _) = group_subjects.resolved((line,), OWNERS, 4.0)
    assert one == GroupLine("i-1", "vpc", 5.0, line.pattern)
    assert group_subjects.resolved((line,), OWNERS, 5.0) == (line,)


def test_where_nobody_can_say_whose_an_id_is_who_is_in_stays_unless_the_subject_goes() -> None:
    lines = (DB, NAMED, by("i-1"), by("i-2", "CN=gone"), GroupLine("i-9", "vpc", by=DB.pattern))
    assert group_subjects.standing(lines) == (DB, NAMED, by("i-1"))


def test_who_gets_another_certificate_leaves_only_where_it_does_not_fit() -> None:
    lines = (DB, NAMED, by("i-1"), by("i-2"))
    owners = {"i-1": "CN=x,OU=web", "i-2": "CN=y,OU=db", "i-3": "CN=z"}
    assert group_subjects.left(lines, owners) == (DB, NAMED, by("i-2"))


def test_an_admission_adds_its_ids_and_lets_go_what_has_no_lease() -> None:
    lines = (DB, by("i-1"), by("i-7"), by("i-8"))
    owners = {"i-2": "CN=db-2,OU=db", "i-7": "CN=x,OU=web"}
    leased = {"i-1", "i-2", "i-7"}
    assert group_subjects.readmitted(lines, owners, leased, 0.0) == (DB, by("i-1"), by("i-2"))


def test_what_differs_is_told() -> None:
    lines = (DB, by("i-1"), by("i-3"), GroupLine("CN=web-*", until=1.0))
    assert group_subjects.differing(lines, OWNERS, 2.0) == (("i-2",), ("i-3",))


def test_a_subject_by_itself_lets_nobody_in_whatever_a_host_calls_itself() -> None:
    """Only ids that a command put there do."""
    groups = Groups({"db": (GroupLine("CN=*"), GroupLine("CN=*,OU=*"), by("i-1", "CN=*"))})
    index = GroupIndex(groups, ("db",))
    assert index.of(member("i-1")) == ("db",)
    assert index.of(member("i-2")) == ()
    assert index.of(member("CN")) == ()
    lines = groups.lines["db"]
    found = taken_in(lines, [member("i-1"), member("i-2")], 0.0)
    assert found == [("i-1",), (), ("i-1",)]


def test_subjects_are_checked_and_edited_as_ids_are() -> None:
    (line,) = group_edits.checked_lines(["CN=*,OU=db"], "", None)
    assert line == DB
    for wrong in ("CN=a, OU=b", "subject=CN=a", "=x", "CN="):
        with pytest.raises(NetiError, match="is no subject as ZooKeeper spells it"):
            group_edits.checked_lines([wrong], "", None)
    groups = Groups({"db": (DB, by("i-1"))})
    added = group_edits.with_added(groups, "db", (GroupLine("i-1"),))["db"]
    assert added == (DB, by("i-1"), GroupLine("i-1"))
    assert group_edits.with_removed(groups, "db", [DB.pattern], None)["db"] == (by("i-1"),)
    both = Groups({"db": added})
    assert group_edits.with_removed(both, "db", ["i-1"], None)["db"] == (DB, by("i-1"))
    with pytest.raises(NetiError, match=r"i-1: in group db by its subject, CN=\*,OU=db"):
        group_edits.with_removed(groups, "db", ["i-1"], None)
