"""Foreign text on its way to each target: whatever it is, it stays text there."""

import csv
import io
import json
import re
import shlex
import subprocess
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neti import text

NASTY = [
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m",
    "a\nb\r\nc\x85d\u2028e\u2029f\x0bg\x0ch",
    "\u202eevil\u2066x\u2069\u200f",
    "\u05d0 10.0.0.1 \u0661",
    "ze\u200bro\ufeff\u00ad\u3164\u2800",
    "z" + "\u0301" * 50,
    "\u0301 on what came before",
    "\ud800\udc00 \udfff \ud83d",
    "\U000e0041\U0010ffff\U0001f600",
    "{{ lookup('pipe', 'id') }}{% raw %}{#",
    '"\\"\'`$(id);|&<script>',
    "=cmd|' /C calc'!A0",
    "\t=1+1",
    "a;=1+1",
    "-rf",
    "\x7f\x00",
    "x" * 10_000,
    "",
]
hostile = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(), max_size=500),
    st.text("\x1b\x9b\n\r\t\u202e\u2066\u0301\u200d\ud800\udfff={}%\"'\\|;,=+-@ a", max_size=60),
)
LINES: dict[str, Callable[[object], str]] = {
    "terminal": text.printable,
    "log": text.logfmt,
    "csv": text.csv_cell,
    "label": text.label,
    "plugin": text.plugin_line,
}
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize("target", LINES)
@given(foreign=hostile)
def test_every_target_gets_one_bounded_line_that_a_terminal_does_not_obey(
    target: str, foreign: str
) -> None:
    said = LINES[target](foreign)
    assert not {unicodedata.category(letter) for letter in said} & UNSEEN
    assert not {unicodedata.bidirectional(letter) for letter in said} & {"R", "AL", "AN"}
    assert len(said.splitlines()) <= 1
    assert len(said) <= 6 * text.MOST_LOGGED
    assert not re.search("[\u0300-\u036f]{3}", said)
    assert not said or unicodedata.category(said[0]) not in ("Mn", "Me")
    said.encode()


@given(foreign=hostile)
def test_printable_is_bounded_and_says_the_same_the_second_time(foreign: str) -> None:
    said = text.printable(foreign)
    assert len(said) <= text.MOST
    assert text.printable(said) == said


@pytest.mark.parametrize("target", LINES)
def test_what_is_cut_loses_its_middle_and_never_the_reason(target: str) -> None:
    most = {"label": text.MOST_IN_A_LABEL}.get(target, text.MOST_LOGGED)
    said = LINES[target]("nftables refused add element " + "x" * most + ": No such file")
    assert said.strip('"').startswith("nftables refused")
    assert said.strip('"').endswith("No such file")


@given(plain=st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=100))
def test_what_is_harmless_stays_as_it_is(plain: str) -> None:
    assert text.printable(plain) == plain
    assert text.csv_cell(plain) == plain
    assert plain == "" or text.logfmt(plain) == plain


def test_names_of_other_languages_stay_readable() -> None:
    for name in ("Zürich", "Ho\u0302\u0300 Chi\u0301 Minh", "東京", "कों", "naïve"):
        assert text.printable(name) == name


def test_an_escape_is_seen() -> None:
    assert text.printable("\x1b[31m\u202e\x7f\ud800\n") == "\\u001b[31m\\u202e\\u007f\\ud800\\n"


@given(foreign=hostile)
def test_a_log_value_can_be_read_back(foreign: str) -> None:
    said = text.logfmt(foreign)
    if not said.startswith('"'):
        assert not re.search(r'[\s"=\\]', said)
    if len(foreign) <= text.MOST_LOGGED:
        read = json.loads(said) if said.startswith('"') else said
        assert read == json.loads(json.dumps(foreign))


@given(
    st.recursive(
        hostile | st.floats() | st.none(),
        lambda e: st.lists(e) | st.dictionaries(hostile, e),
        max_leaves=12,
    )
)
@example(["\\\\ud800", "\\", float("nan"), {"\ud800": "\U0001f600\x7f"}])
def test_a_json_document_is_inert_and_read_by_strict_readers(document: object) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    said = text.json_document(document)
    assert said.isascii()
    assert said.isprintable()
    read = json.loads(said, parse_constant=refuse)
    json.dumps(read, ensure_ascii=False).encode()
    json.dumps(text.plain(document), allow_nan=False)


@given(
    st.recursive(
        hostile | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False),
        lambda e: (
            st.lists(e)
            | st.tuples(e, e)
            | st.dictionaries(hostile | st.integers() | st.booleans() | st.none(), e)
        ),
        max_leaves=12,
    ),
    st.integers(1, 4),
)
@example([{1: [{"a": ({}, [], ())}]}, float("inf")], 2)
def test_json_is_laid_out_as_python_lays_it_out(document: object, indent: int) -> None:
    with suppress(ValueError):
        expected = json.dumps(document, indent=indent, allow_nan=False).replace("\x7f", "\\u007f")
        if "\\ud" not in expected:
            assert text.json_document(document, indent=indent) == expected


def test_of_a_long_list_each_entry_has_a_line() -> None:
    """A fleet of thousands: for grep."""
    rows = [{"id": f"db-{number}", "more": [number, None, "\x7f\u2028"]} for number in range(101)]
    document = {"members": rows, "total": 101}
    lines = text.json_document(document, indent=2).splitlines()
    assert json.loads("\n".join(lines)) == document
    assert lines[2] == '    {"id": "db-0", "more": [0, null, "\\u007f\\u2028"]},'
    assert len(lines) == 101 + 5
    assert json.loads(text.json_document([float("inf")] * 101, indent=2)) == [None] * 101


def test_a_json_document_keeps_what_it_can() -> None:
    document = {"a": ["\\ud800", "\U0001f600", 1.5, "x\ny", None, True]}
    assert json.loads(text.json_document(document)) == document


@given(foreign=hostile)
def test_no_spreadsheet_calculates_a_cell(foreign: str) -> None:
    line = io.StringIO()
    csv.writer(line).writerow(["first", text.csv_cell(foreign), "last"])
    rows = list(csv.reader(io.StringIO(line.getvalue())))
    assert [row[0] for row in rows] == ["first"]
    assert rows[0][-1] == "last"
    for separator in ",;|\t":
        for cell in line.getvalue().split(separator):
            assert not re.match('["\\s]*[=+\\-@\uff1d\uff0b\uff0d\uff20]', cell)


@given(foreign=hostile)
def test_a_plain_name_is_no_option_no_template_and_no_address(foreign: str) -> None:
    if (name := text.plain_name(foreign)) is not None:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name)


@pytest.mark.parametrize(
    "name",
    ["localhost", "LOCALHOST", "a.localhost", "localhost.localdomain", "ip6-loopback", "10.0.0.1",
     "1", "0x7f.1", "web.5", "0x7f000001", "127.0.0.1.", "-x", "a b", "a\n", "x" * 64, "", 5, None,
     "é", "_meta", "web_{{", "localhost6"],
)  # fmt: skip
def test_names_that_mean_something_else_are_none(name: object) -> None:
    assert text.plain_name(name) is None


@pytest.mark.parametrize(
    "name", ["web-1", "db.example.com", "i-0abc", "1234567890123456789", "A_b"]
)
def test_usual_names_are_names(name: str) -> None:
    assert text.plain_name(name) == name


@given(foreign=hostile)
def test_what_could_be_rendered_is_marked(foreign: str) -> None:
    value = text.inventory_value(foreign)
    if not isinstance(value, dict):
        assert not re.search(r"[{}]", str(value))
    else:
        assert set(value) == {"__ansible_unsafe"}


@given(foreign=hostile, other=hostile)
def test_a_hosts_line_maps_the_one_address_only(foreign: str, other: str) -> None:
    line = text.hosts_line(IPv4Address("192.168.0.1"), foreign, "web-1", other)
    assert line is not None
    assert re.fullmatch(r"192\.168\.0\.1\t[A-Za-z0-9._-]+( [A-Za-z0-9._-]+)*", line)
    assert text.hosts_line(IPv4Address("192.168.0.1"), "localhost") is None


@given(foreign=hostile)
def test_no_performance_data_begin_in_a_plugins_line(foreign: str) -> None:
    assert "|" not in text.plugin_line(foreign)


@given(words=st.lists(hostile, min_size=1, max_size=3))
def test_a_command_to_paste_is_one_line_in_which_each_foreign_word_stays_one(
    words: list[str],
) -> None:
    said = text.command("neti lease release", *words)
    assert not {unicodedata.category(letter) for letter in said} & UNSEEN
    fixed, rest = shlex.split(said)[:3], shlex.split(said)[3:]
    assert fixed == ["neti", "lease", "release"]
    if any(word.startswith("-") for word in words):
        assert rest.pop(0) == "--"
    assert rest == [text.printable(word) for word in words]
    assert text.printable(said, None) == said, "what is printed is what is pasted"


@pytest.mark.parametrize("foreign", [*NASTY, "x';touch owned;'", "$(touch owned)", "`touch owned`"])
def test_a_shell_runs_nothing_of_a_foreign_word(foreign: str) -> None:
    line = text.command("printf %s,", foreign)
    result = subprocess.run(["sh", "-c", line], capture_output=True, check=True)
    assert result.stdout.decode().removeprefix("--,") == text.printable(foreign) + ","


def test_what_is_harmless_is_not_quoted() -> None:
    assert text.command("neti lease release", "i-0aaa") == "neti lease release i-0aaa"
    assert text.command("neti lease release", "--help") == "neti lease release -- --help"
