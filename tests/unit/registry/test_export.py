"""The document of 'neti registry export': what is written is read, and nothing else is believed."""

import json
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from neti.model.groups import GroupLine, Groups
from neti.registry import groups
from neti.registry.export import (
    SETTINGS,
    Export,
    ExportUnreadable,
    HeldKey,
    Leased,
    Pin,
    decode,
    encode,
)

KEY = "A" * 42 + "8"
OVERLAY = IPv4Address("192.168.0.1")
WHOLE = Export(
    leases=(Leased(OVERLAY, "a", "CN=a,OU=hosts"), Leased(OVERLAY + 1, "b")),
    hosts=(Pin("a", "CN=a,OU=hosts"), Pin("c", came=False)),
    keys=(HeldKey(KEY, "a"), HeldKey("B" * 42 + "8")),
    settings={
        "interval": "0.5",
        "strict": "on 2026-11-27T12:00:00Z",
        "groups": groups.encode(Groups({"db": (GroupLine("db-*"),)}, 7)).decode(),
    },
    admission=True,
    root_closed=True,
    operators=("CN=chief,OU=operators",),
    at="2026-11-27T12:00:00Z",
    fleet="f1",
)


def held(**changed: Any) -> bytes:
    return json.dumps({**json.loads(encode(WHOLE)), **changed}).encode()


@pytest.mark.parametrize("export", [WHOLE, Export(leases=(), hosts=())])
def test_it_is_read_as_it_was_written(export: Export) -> None:
    assert decode(encode(export), "f") == export


def test_what_is_about_one_day_is_in_no_file() -> None:
    """After a wipe weeks later a gateway that was worked on that day may be the only one."""
    assert not {"release", "drained"} & set(SETTINGS)


def test_each_host_has_a_line_of_its_own() -> None:
    lines = encode(WHOLE).decode().splitlines()
    assert '  {"id": "a", "subject": "CN=a,OU=hosts", "came": true},' in lines


def test_a_file_of_a_version_without_keys_is_read() -> None:
    older = {k: v for k, v in json.loads(encode(WHOLE)).items() if k not in ("keys", "root_closed")}
    assert decode(json.dumps(older).encode(), "f") == replace(WHOLE, keys=(), root_closed=False)


def test_what_a_newer_version_adds_is_ignored() -> None:
    hosts = [{"id": "a", "subject": None, "key": "k"}]
    assert decode(held(hosts=hosts, more=1, settings={"other": "x"}), "f").hosts == (Pin("a"),)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{", "f is not JSON"),
        (b"[" * 100_000, "f is not JSON"),
        (b"\xff", "f is not JSON"),
        (b"[]", "f: was not written by 'neti registry export'"),
        (held(format=2), "f: format is 2, and this version reads 1"),
        (held(hosts=1), "f: hosts: expected a list, not a whole number (1)"),
        (held(leases=[{"id": "a"}]), "f: leases[0]: overlay is missing"),
        (
            held(leases=[{"id": "a", "overlay": "nowhere"}]),
            "f: leases[0].overlay: expected an IPv4 address (nowhere)",
        ),
        (held(hosts=[{"id": "../x"}]), "f: hosts[0].id: '../x' is no host id"),
        (held(hosts=[{"id": "a", "subject": "\x1b"}]), "f: hosts[0].subject: "),
        (held(hosts=[{"id": "a"}, {"id": "a"}]), "f: hosts: id a is there twice"),
        (
            held(leases=[{"id": i, "overlay": "192.168.0.1"} for i in "ab"]),
            "f: leases: overlay 192.168.0.1 is there twice",
        ),
        (held(keys=[{"key": "../x", "id": "a"}]), "f: keys[0].key: '../x' is no key"),
        (held(keys=[{"key": KEY, "id": "!other"}]), "f: keys[0].id: '!other' is no host id"),
        (held(keys=[{"key": KEY}, {"key": KEY}]), f"f: keys: key {KEY} is there twice"),
        (held(operators=["chief"]), "f: operators[0]: 'chief' is no subject"),
        (held(settings={"interval": "soon"}), "f: settings.interval is 'soon': expected a number"),
        (held(settings={"strict": "on"}), "f: settings.strict is 'on': expected"),
        (held(settings={"groups": "{}"}), "f: the fleet-wide document of groups has format null"),
        (held(admission="yes"), "f: admission: expected true or false, not text (yes)"),
    ],
)
def test_what_is_wrong_is_named_with_key_and_value(raw: bytes, said: str) -> None:
    with pytest.raises(ExportUnreadable) as refused:
        decode(raw, "f")
    assert said in str(refused.value)
    assert "\x1b" not in str(refused.value)
