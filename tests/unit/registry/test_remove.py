"""What 'neti registry remove' leaves alone, and what of a host's is not the host's."""

from collections.abc import Sequence
from typing import Any, Final, cast

import pytest
from kazoo.protocol.states import ZnodeStat
from kazoo.security import Id

from neti.model.groups import GroupLine, Groups
from neti.registry.groups import encode as encode_groups
from neti.registry.record import HostRecord, encode
from neti.registry.zookeeper import remove, rights
from neti.registry.zookeeper.calls import Attempt
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
OWN, OTHER = 7, 8  # sessions


def entry_of(generation: str) -> str:
    return f"1.0a00000100000000c0a80001.{generation}.ec2.a"


class Held:
    """An attempt at a tree that consists of these nodes: data, step, session."""

    def __init__(self, nodes: dict[str, tuple[bytes, int, int]]) -> None:
        self._held = nodes
        self.read: list[str] = []

    def nodes(self, paths: Sequence[str], *, unread: set[str] | None = None) -> list[Any]:
        self.read += paths
        return [
            (self._held[path][0], self._stat(path)) if path in self._held else None
            for path in paths
        ]

    def stats(self, paths: Sequence[str]) -> list[Any]:
        return [self._stat(path) if path in self._held else None for path in paths]

    def acls(self, paths: Sequence[str], *, unread: set[str] | None = None) -> list[Any]:
        own = rights.of_child(CLOSED, owner=Id("x509", "CN=a"))
        return [CLOSED if path in LAYOUT.parents() else own for path in paths]

    def each(self, requests: Sequence[Any]) -> list[Any]:
        return [[] if isinstance(one, rights.WhoAmI) else ([], None) for one in requests]

    def go_on(self) -> None:
        return

    def _stat(self, path: str) -> ZnodeStat:
        _, step, session = self._held[path]
        return ZnodeStat(*([0] * 11))._replace(czxid=step, mzxid=step, ephemeralOwner=session)


def keeps(path: str, nodes: dict[str, tuple[bytes, int, int]]) -> str:
    def named(shown: str) -> str:
        kind, _, name = shown.partition("/")
        return {"ip-map": LAYOUT.name, "agents": LAYOUT.agent, "hosts": LAYOUT.host}[kind](name)

    held = {named(shown): node for shown, node in nodes.items()}
    attempt = cast("Attempt", Held(held))
    (stat,) = attempt.stats([named(path)])
    return remove._keeps(attempt, LAYOUT, named(path), stat, lambda _: None) or ""


def record(generation: str) -> bytes:
    return encode(HostRecord(word=entry_of(generation)))


REGISTERED: Final = {
    "hosts/a": (record("5"), 100, 0),
    f"ip-map/{entry_of('5')}": (b"", 100, OWN),
    "agents/a": (b"{}", 101, OWN),
}


@pytest.mark.parametrize(
    ("generation", "session", "stays"),
    [("5", OWN, True), ("4", OWN, True), ("6", OWN, False), ("4", OTHER, False)],
    ids=["its own", "a former one", "made in its session", "another's"],
)
def test_of_a_registered_hosts_entries_its_own_stay(
    generation: str, session: int, stays: bool
) -> None:
    step = 100 if generation == "5" else 90
    nodes = {**REGISTERED, f"ip-map/{entry_of(generation)}": (b"", step, session)}
    kept = keeps(f"ip-map/{entry_of(generation)}", nodes)
    assert kept == ("it is the entry of a, which is registered" if stays else "")


@pytest.mark.parametrize("path", ["agents/a", f"ip-map/{entry_of('9')}"])
def test_what_stands_of_a_host_that_is_gone_may_go(path: str) -> None:
    nodes = {
        "hosts/a": (record("5"), 100, 0),
        "agents/a": (b"{}", 200, OTHER),
        f"ip-map/{entry_of('9')}": (b"", 200, OTHER),
    }
    assert keeps(path, nodes) == ""


@pytest.mark.parametrize("path", ["agents/a", f"ip-map/{entry_of('9')}"])
def test_of_an_agent_of_a_version_before_records_both_stay(path: str) -> None:
    nodes = {
        "hosts/a": (encode(HostRecord()), 100, 0),
        "agents/a": (b"{}", 200, OWN),
        f"ip-map/{entry_of('9')}": (b"", 200, OWN),
    }
    assert keeps(path, nodes)


def of_ids(groups: bytes, *ids: str) -> tuple[Held, list[str | None]]:
    """Why the records of these ids stay, which have no lease."""
    gone = {LAYOUT.host(one): (encode(HostRecord()), 1, 0) for one in ids}
    held = Held({**gone, LAYOUT.setting("groups"): (groups, 1, 0)})
    doomed = remove.plan(cast("Attempt", held), LAYOUT, list(gone))
    return held, [one.keeps for one in doomed]


def test_groups_are_read_once_for_all_records() -> None:
    lines = {"db": (GroupLine("a"),)}
    held, kept = of_ids(encode_groups(Groups(lines, 1)), "a", "b", "c")
    assert kept == ["whoever registers under that id then is in db", None, None]
    assert held.read.count(LAYOUT.setting("groups")) == 1


def test_no_record_goes_while_the_groups_cannot_be_read() -> None:
    """Agents may follow the last that could be: whoever took the id would be in there."""
    for why in of_ids(b"x", "a", "b")[1]:
        assert why is not None
        assert "is in a group is not known" in why
