"""Ids and subjects that an operator types, or that stand in a file."""

import pytest

from neti.errors import NetiError
from neti.registry.admitted import Asked, checked_pattern, read, typed

SUBJECT = "CN=web-1,OU=hosts"


def test_a_subject_belongs_to_the_id_before_it() -> None:
    assert typed(["web-1", SUBJECT, "web-2"]) == [Asked("web-1", SUBJECT), Asked("web-2")]


def test_a_file_has_ids_with_or_without_subjects() -> None:
    raw = f'\ufeffid,subject\n\n# the web\nweb-1,{SUBJECT}\r\nweb-2\n"web-3","CN=w,O=A ""B"""\n'
    assert read(raw.encode(), "f") == [
        Asked("web-1", SUBJECT),
        Asked("web-2"),
        Asked("web-3", 'CN=w,O=A "B"'),
    ]


def test_an_id_that_stands_twice_is_asked_about_once() -> None:
    assert read(f"web-1\nweb-1,{SUBJECT}\nweb-1\n".encode(), "f") == [Asked("web-1", SUBJECT)]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"web-1\nweb 2\n", "f, line 2: 'web 2' is no host id"),
        (b"web-1,CN=web-1, OU=hosts\n", "f, line 1: 'CN=web-1, OU=hosts' is no subject"),
        (b"web-1,/CN=web-1\n", "f, line 1: '/CN=web-1' is no subject"),
        (b"web-1,subject=CN=web-1,OU=hosts\n", "f, line 1: 'subject=CN=web-1,OU=hosts' is no subj"),
        (b"web-1,CN=\x1b[31m\n", "f, line 1: "),
        (b"web-1,CN=" + b"a" * 600, "f, line 1: "),
        (b"web-1,CN=a\nweb-1,CN=b\n", "f: web-1 is there with two subjects"),
        (b"web-\xff", "f: is not text in UTF-8"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(raw: bytes, said: str) -> None:
    with pytest.raises(NetiError) as refused:
        read(raw, "f")
    assert said in str(refused.value)
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize("words", [[SUBJECT], ["a", SUBJECT, SUBJECT], ["a", "a", "../b"]])
def test_what_makes_no_sense_is_refused(words: list[str]) -> None:
    with pytest.raises(NetiError):
        typed(words)


@pytest.mark.parametrize("pattern", ["CN=web-1,OU=hosts", "{id}", "CN={id}, OU=hosts"])
def test_a_pattern_is_a_subject_with_a_place_for_the_id(pattern: str) -> None:
    with pytest.raises(NetiError, match="--subject"):
        checked_pattern(pattern)
