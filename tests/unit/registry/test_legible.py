"""Whether agents of this version can read what operators told the whole fleet."""

from collections.abc import Mapping

import pytest

from neti.registry import SETTING_NAMES, SettingName, drained, names, release, retired, revoked
from neti.registry import groups as group_document
from neti.registry.legible import illegible
from neti.registry.memory import MemoryRegistry, MemoryServer
from neti.registry.retired import Retired

GOOD: Mapping[SettingName, bytes] = {
    "interval": b"0.5",
    "maxchange": b"30",
    "release": release.encode([release.said(["a"], id="1", site=None, by="ann", at=1.0)]),
    "strict": b"on 2026-11-27T17:40:00Z",
    "revoked": revoked.added(None, "mB7kmB7kmB7kmB7kmB7kmB7kmB7kmB7kmB7kmB7kmB4"),
    "drained": drained.encode(["gw-1"]) or b"",
    "groups": b'{"format":1,"edition":1,"groups":{}}',
    "names": b'{"format":1,"edition":7,"suffix":"neti.internal","names":{"db":"i-0abc"}}',
    "asked": b"17",
    "retired": retired.encode({"a": Retired(at=1, by="ann")}),
}
# What stands there, and what is said of it: its value, and what was expected.
BAD: Mapping[SettingName, list[tuple[bytes, str, str]]] = {
    "interval": [(b"soon", "'soon'", "a number from 0 to 60")],
    "maxchange": [(b"0", "'0'", "a whole number from 1 to 10000")],
    "release": [(b'{"format":2}', '{"format":2}', '"format": 1'), (b"[]", "'[]'", "releases")],
    "strict": [(b"yes", "'yes'", "'on' or 'off'"), (b"on", "'on'", "a time such as")],
    "revoked": [(b"2 abc", "'2 abc'", "'1', and how revoked keys begin")],
    "drained": [(b"1 gw-1 ;rm", "'1 gw-1 ;rm'", "ids of hosts")],
    "groups": [(b'{"format":9}', "has format 9", "not 1")],
    "names": [(b'{"format":9}', "has format 9", "not 1"), (b"\xff", "is not JSON", "names")],
    "retired": [(b'{"format":2,"words":[]}', '{"format":2', '"format": 1')],
}


def found(held: Mapping[SettingName, bytes]) -> dict[SettingName, str]:
    return dict(illegible(held.get))


def test_what_this_version_writes_it_reads() -> None:
    assert GOOD.keys() == set(SETTING_NAMES)
    assert found(GOOD) == {}
    assert found({}) == {}


@pytest.mark.parametrize(
    ("setting", "raw", "value", "expected"),
    [(setting, *each) for setting, those in BAD.items() for each in those],
)
def test_each_setting_that_agents_read_is_tried(
    setting: SettingName, raw: bytes, value: str, expected: str
) -> None:
    assert BAD.keys() | {"asked"} == set(SETTING_NAMES)
    (said,) = found({**GOOD, setting: raw}).items()
    assert said[0] == setting
    assert value in said[1]
    assert expected in said[1]


def test_no_text_breaks_the_look_or_a_terminal() -> None:
    for raw in (b"\x1b[2J\n\x00", b"[" * 5000, b"\xff" * 100_000, b"null", b'{"format":1}'):
        held = dict.fromkeys(SETTING_NAMES, raw)
        for why in found(held).values():
            assert "\x1b" not in why
    assert set(found(dict.fromkeys(SETTING_NAMES, b"\x1b[2J\n"))) == set(BAD)


def test_by_what_a_registry_hands_out() -> None:
    """Cut where it is longer than a setting may be."""
    registry = MemoryRegistry(MemoryServer())
    registry.change_setting("names", b"{" + b" " * names.MAX_BYTES)
    registry.change_setting("groups", b" " * (group_document.MAX_BYTES + 5))
    assert set(dict(illegible(registry.setting))) == {"names", "groups"}
