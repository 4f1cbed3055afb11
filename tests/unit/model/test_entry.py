"""Entry names: one spelling per member, and no text that upsets the parser."""

import json
import string
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.errors import EntryError
from neti.model import Departure, Member
from neti.model.entry import (
    GENERATION_RESERVE,
    MAX_DATA_BYTES,
    MAX_MORE_ADDRESSES,
    MAX_NAME_BYTES,
    encode,
    encode_data,
    encode_departure,
    parse,
    parse_data,
)

ALNUM = string.ascii_letters + string.digits
SITE_REST = string.ascii_lowercase + string.digits + "_-"

host_ids = st.builds(
    str.__add__, st.sampled_from(ALNUM), st.text(st.sampled_from(ALNUM + "._-"), max_size=24)
)
sites = st.builds(
    str.__add__,
    st.sampled_from(string.ascii_lowercase + string.digits),
    st.text(st.sampled_from(SITE_REST), max_size=3),
)
ipv4 = st.integers(0, 2**32 - 1).map(IPv4Address)
public = st.none() | st.integers(1, 2**32 - 1).map(IPv4Address)
members = st.builds(
    Member,
    id=host_ids.filter(lambda text: len(text) <= 20),
    site=sites,
    private=ipv4,
    public=public,
    overlay=ipv4,
    generation=st.integers(0, 36**3 - 1),
    extended=st.booleans(),
)
addresses = st.lists(
    st.ip_addresses().filter(lambda a: getattr(a, "scope_id", None) is None),
    max_size=MAX_MORE_ADDRESSES,
).map(tuple)
# Text that looks like an entry but for one thing.
nearly = st.builds(
    lambda name, at, what: name[:at] + what + name[at + 1 :],
    members.map(encode),
    st.integers(0, MAX_NAME_BYTES),
    st.text(st.characters(), max_size=2)
    | st.sampled_from(["٣", "²", "\n", "\0", "A", "İ", "\ud800", ".", "0" * 5000]),
)


@given(members)
def test_every_member_survives_its_name(member: Member) -> None:
    assert parse(encode(member)) == member


@given(members)
def test_every_departure_survives_its_name(member: Member) -> None:
    assert parse(encode_departure(member)) == Departure(member.id, member.generation)


@given(st.text(st.characters()) | nearly)
def test_no_text_raises_anything_else_and_what_parses_has_one_spelling(text: str) -> None:
    try:
        parsed = parse(text)
    except EntryError:
        return
    if isinstance(parsed, Member):
        # A later generation may stand in the room that a new registration leaves free.
        assert _spelled(parsed) == text
    else:
        assert text.endswith(f".{parsed.id}")
        assert text.isascii()


def _spelled(member: Member) -> str:
    try:
        return encode(member)
    except EntryError:
        shorter = Member(
            id="x", site=member.site, private=member.private, public=member.public,
            overlay=member.overlay, generation=member.generation, extended=member.extended,
        )  # fmt: skip
        return encode(shorter).removesuffix("x") + member.id


@given(members)
def test_names_are_short_ascii_and_leave_room_for_later_generations(member: Member) -> None:
    name = encode(member)
    assert name.isascii()
    assert len(name.encode()) <= MAX_NAME_BYTES
    later = parse(name.replace(f".{_generation(name)}.", f".{'z' * GENERATION_RESERVE}.", 1))
    assert isinstance(later, Member)
    assert later.generation == 36**GENERATION_RESERVE - 1


def _generation(name: str) -> str:
    return name.split(".")[2 if name[1] == "." else 1]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "1.",
        "left",
        "left.",
        "left.0.",
        "left.00.a",
        "left.-1.a",
        "left.٣.a",
        "left.0.a\n",
        "2.0a000001c6336401c0a80001.0.ec2.a",
        "1.0A000001c6336401c0a80001.0.ec2.a",
        "1.0a000001c6336401c0a80001.00.ec2.a",
        "1.0a000001c6336401c0a80001.01.ec2.a",
        "1.0a000001c6336401c0a80001.123456789.ec2.a",
        "1.0a000001c6336401c0a80001.0.EC2.a",
        "1.0a000001c6336401c0a80001.0..a",
        "1.0a000001c6336401c0a80001.0.ec2.",
        "1.0a000001c6336401c0a80001.0.ec2.a/b",
        "1.0a000001c6336401c0a80001.0.ec2.a\n",
        "1.0a000001c6336401c0a80001.0.ec2.a\0",
        "1.0a000001c6336401c0a80001.0.ec2.\ud800",
        "1.0a000001c6336401c0a8000.0.ec2.a",
        "1.0a000001c6336401c0a80001.0.ec2." + "a" * 41,
        "9" * 1_000_000,
    ],
)
def test_what_is_nearly_an_entry_is_refused(name: str) -> None:
    with pytest.raises(EntryError) as caught:
        parse(name)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("host_id", "site"),
    [
        ("", "ec2"),
        ("-a", "ec2"),
        ("a b", "ec2"),
        ("ä", "ec2"),
        ("a" * 41, "ec2"),
        ("a", ""),
        ("a", "EC2"),
        ("a", "s" * 17),
        ("a" * 30, "data-centre-one"),
    ],
)
def test_a_host_that_cannot_be_named_is_told_why(host_id: str, site: str) -> None:
    nowhere = IPv4Address(0)
    with pytest.raises(EntryError):
        encode(Member(id=host_id, site=site, private=nowhere, public=None, overlay=nowhere))


@given(addresses)
def test_further_addresses_survive_once_each(more: tuple[IPv4Address, ...]) -> None:
    assert parse_data(encode_data(more)) == tuple(dict.fromkeys(more))


@given(st.integers(MAX_MORE_ADDRESSES, MAX_MORE_ADDRESSES + 2))
def test_what_is_encoded_is_never_too_much_to_parse(count: int) -> None:
    longest = tuple(IPv6Address((2**128 - 1) - number) for number in range(count))
    if count > MAX_MORE_ADDRESSES:
        with pytest.raises(EntryError):
            encode_data(longest)
    else:
        assert parse_data(encode_data(longest)) == longest


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(
    st.binary()
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.lists(json_values).map(lambda more: json.dumps({"more": more}).encode())
)
def test_no_data_raise_anything_but_an_entry_error(data: bytes) -> None:
    try:
        parse_data(data)
    except EntryError:
        return


@pytest.mark.parametrize(
    "data",
    [
        b" ",
        b"[]",
        b"null",
        b"{}",
        b'{"more": {}}',
        b'{"more": [1]}',
        b'{"more": ["10.0.0.0/8"]}',
        b'{"more": ["fe80::1%eth0"]}',
        b'{"more": ["\xd9\xa3.0.0.1"]}',
        b'{"more": ["\\ud800"]}',
        b'{"more": [' + b'"10.0.0.1",' * 64 + b'"10.0.0.1"]}',
        b"[" * 4000,
        b"9" * 4096,
        b'{"more": ' + b"9" * 4000 + b"}",
        b" " * (MAX_DATA_BYTES + 1),
        b"\xff\xfe\x00",
        b'\xff\xfe{\x00"\x00',
    ],
)
def test_data_that_are_not_further_addresses_are_refused(data: bytes) -> None:
    with pytest.raises(EntryError):
        parse_data(data)
