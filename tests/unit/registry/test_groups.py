"""Groups of members, as text."""

import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.model.groups import GroupLine, Groups
from neti.registry.groups import (
    MAX_BYTES,
    MAX_MANY_STARS,
    MAX_QUESTION_MARKS,
    GroupsTooLong,
    GroupsUnreadable,
    decode,
    encode,
)

WHOLE = Groups(
    {
        "db": (GroupLine("db-*"), GroupLine("i-0abc", "vpc"), GroupLine("x", until=1.5)),
        "by-subject": (
            GroupLine("CN=*,OU=db"),
            GroupLine("CN=*,OU=db", "vpc", 3.0),
            GroupLine("i-0def"),
            GroupLine("i-0def", by="CN=*,OU=db"),
            GroupLine("i-0def", "vpc", 3.0, "CN=*,OU=db"),
        ),
        "empty": (),
        "web-2": (GroupLine("?", "a", 2.0),),
    },
    edition=7,
    shrunk=5,
    judged=(5, 6, 7),
)


def held(**changed: Any) -> bytes:
    return json.dumps({**json.loads(encode(WHOLE)), **changed}).encode()


def test_it_is_read_as_it_was_written() -> None:
    assert decode(encode(WHOLE)) == WHOLE
    assert decode(encode(Groups({}))) == decode(None) == Groups({})


def test_what_a_newer_version_adds_is_ignored() -> None:
    lines = {"db": [{"id": "db-1", "note": "x"}]}
    assert decode(held(groups=lines, more=1)).lines == {"db": (GroupLine("db-1"),)}


def test_a_version_that_knows_no_subjects_sees_who_is_in_by_them_and_nobody_else() -> None:
    """It passes over keys that it does not know."""
    document = json.loads(encode(WHOLE))
    del document["subjects"]
    for lines in document["groups"].values():
        for line in lines:
            if isinstance(line, dict):
                line.pop("by", None)
    assert document["format"] == 1
    assert decode(json.dumps(document).encode()).lines == {
        **WHOLE.lines,
        "by-subject": (
            GroupLine("i-0def"),
            GroupLine("i-0def"),
            GroupLine("i-0def", "vpc", 3.0),
        ),
    }


def test_an_id_by_no_subject_that_stands_there_is_written_as_if_it_was_named() -> None:
    """Whoever reads it would otherwise refuse the whole document."""
    alone = Groups({"db": (GroupLine("CN=a"), GroupLine("a", by="CN=b"))})
    assert decode(encode(alone)).lines["db"] == (GroupLine("CN=a"), GroupLine("a"))


@pytest.mark.parametrize(
    ("subjects", "by", "said"),
    [
        ([], None, "has subjects that are no object"),
        ({"db": {}}, None, "has no list of subjects in group db"),
        ({"db": ["CN=a"]}, None, 'has "CN=a" in group db, which is no line of a subject'),
        ({"db": [{"subject": "db-*"}]}, None, "has an object in group db"),
        ({"db": [{"subject": "CN=a, OU=b"}]}, None, "has an object in group db"),
        ({"db": [{"subject": "CN=a", "until": "never"}]}, None, "has an object in group db"),
        ({}, 0, "has an id by subject 0 in group db, which has no such subject"),
        ({"db": [{"subject": "CN=a"}]}, 1, "has an id by subject 1 in group db"),
        ({"db": [{"subject": "CN=a"}]}, -1, "has an id by subject -1 in group db"),
        ({"db": [{"subject": "CN=a"}]}, True, "has an id by subject true in group db"),
    ],
)
def test_subjects_that_are_none_are_named(subjects: Any, by: Any, said: str) -> None:
    lines = {"db": [{"id": "a", "by": by}]}
    with pytest.raises(GroupsUnreadable, match=re.escape(f"document of groups {said}")):
        decode(held(groups=lines, subjects=subjects))


# As deep as it is read, and deeper than it could be written.
DEEP = b'{"format":1,"groups":{"db":[' + b"[" * 900 + b"]" * 900 + b"]}}"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[" * 50_000, "is not JSON"),
        (b'{"format":1,"edition":' + b"9" * 5000 + b"}", "is not JSON"),
        (b" " * (MAX_BYTES + 1), "is longer than 60,000 bytes"),
        (b"[]", "is no JSON object"),
        (b"{}", "has format null, not 1"),
        (held(format=2), "has format 2, not 1"),
        (held(format="\x1b[2J"), "has format "),
        (held(groups=[]), "has no groups"),
        (held(edition=-1), "has edition -1"),
        (held(edition=True), "has edition true"),
        (held(edition=1 << 60), "has edition 1152921504606846976"),
        (held(shrunk="x"), 'has shrunk "x"'),
        (held(judged=7), "has judged 7, which is no list of editions"),
        (held(judged=[7, "x"]), 'has judged "x", which is no number of an edition'),
        (held(groups={"DB": []}), 'has a group "DB"'),
        (held(groups={"members": []}), 'has a group "members"'),
        (held(groups={"db": "x"}), "has no list of lines in group db"),
        (held(groups={"db": [1]}), "has 1 in group db"),
        (held(groups={"db": [{}]}), "has an object in group db"),
        (DEEP, "has a list in group db"),
        (held(groups={"db": ["a/b"]}), 'has "a/b" in group db'),
        (held(groups={"db": ["\ud800"]}), "in group db"),
        (held(groups={"db": [{"id": "a", "site": "A B"}]}), "in group db"),
        (held(groups={"db": [{"id": "a", "until": float("nan")}]}), "in group db"),
        (held(groups={"db": [{"id": "a", "until": float("inf")}]}), "in group db"),
        (held(groups={"db": [{"id": "a", "until": True}]}), "in group db"),
    ],
)
def test_what_is_no_such_document_is_named(raw: bytes, said: str) -> None:
    with pytest.raises(GroupsUnreadable) as refused:
        decode(raw)
    assert said in str(refused.value)
    assert str(refused.value).isprintable()


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    judged(raw)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(groups=VALUES, line=VALUES, edition=VALUES)
def test_nor_does_any_document(groups: object, line: object, edition: object) -> None:
    judged(held(groups=groups, edition=edition))
    judged(held(groups={"db": [line]}))
    judged(held(groups={"db": [{"id": line}, {"id": "a", "site": line, "until": line}]}))


def judged(raw: bytes) -> None:
    with contextlib.suppress(GroupsUnreadable):
        assert encode(decode(raw))


def test_what_the_registry_would_not_hold_is_refused() -> None:
    lines = tuple(GroupLine(f"i-{number:038}") for number in range(1500))
    with pytest.raises(GroupsTooLong, match="nothing was changed"):
        encode(Groups({"db": lines}))


def test_patterns_that_take_long_are_few() -> None:
    """Of all groups together, as all of them may be needed."""
    many = [GroupLine(f"*a{number:03}*b*") for number in range(MAX_MANY_STARS + 1)]
    one = tuple(GroupLine(f"*a{number:03}") for number in range(1000))
    most = Groups({"db": tuple(many[1:33]), "one": one, "web": tuple(many[33:])}, 7)
    assert decode(encode(most)) == most
    with pytest.raises(GroupsTooLong, match=r"65 patterns with more than one '\*'.*\n→ patterns"):
        encode(Groups({**most.lines, "x": tuple(many[:1])}, 8))


def test_patterns_with_a_question_mark_are_few() -> None:
    marks = [GroupLine(f"i-{number:03}?*") for number in range(MAX_QUESTION_MARKS + 1)]
    most = Groups({"db": tuple(marks[1:33]), "web": tuple(marks[33:])}, 7)
    assert decode(encode(most)) == most
    with pytest.raises(GroupsTooLong, match=r"257 patterns with '\?'.*\n→ patterns"):
        encode(Groups({**most.lines, "x": tuple(marks[:1])}, 8))


@pytest.mark.parametrize(
    ("pattern", "most"), [("*a{:03}*b*", MAX_MANY_STARS), ("i-{:03}?*", MAX_QUESTION_MARKS)]
)
def test_what_has_more_of_them_already_is_read_and_can_become_shorter(
    pattern: str, most: int
) -> None:
    """A version before wrote it, or somebody by hand: no host is without groups because of it."""
    many = [pattern.format(number) for number in range(most + 10)]
    before = decode(held(groups={"db": many}))
    lines = before.lines["db"]
    assert [line.pattern for line in lines] == many
    for fewer in (lines, lines[1:], (*lines[1:], GroupLine(pattern.format(999)))):
        after = Groups({"db": fewer, "web": (GroupLine("web-*"),)}, 8)
        assert decode(encode(after, before)) == after
    more = Groups({**before.lines, "web": (GroupLine(pattern.format(999)),)}, 8)
    with pytest.raises(GroupsTooLong, match=f"would have {most + 11} patterns"):
        encode(more, before)
