"""The dataplane's sightings: the same contract on the kernel of dictionaries and the real one."""

import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

import pytest
from tests.support.netns import Net, network, require_root

from neti.dataplane import Dataplane
from neti.dataplane.memory import MemoryDataplane
from neti.dataplane.nftables import NftablesDataplane
from neti.model.settings import Settings
from neti.ruleset.delta import Elements
from neti.ruleset.objects import FAMILY_TABLE, NO_TABLE, SEEN_SECONDS, DeleteTable, Transaction
from neti.ruleset.policy import structure
from neti.ruleset.replace import replacement
from neti.ruleset.surroundings import Surroundings
from neti.stage.shadow import Sighting

STRUCTURE = structure(
    Settings(path=Path("neti.yml")), Surroundings(uplinks=("eth0",), ssh_untracked=True)
)
TABLE = replacement(STRUCTURE, Elements(revoke_seconds=60), NO_TABLE, grace_seconds=0)
ANEW = Transaction((DeleteTable(), *TABLE.commands))

SEEN = [
    Sighting(ip_address("10.0.0.66"), "tcp", 8080, packets=3, idle=600.0),
    Sighting(ip_address("10.0.0.66"), "udp", 53, packets=1, idle=3.0, forwarded=True),
    Sighting(ip_address("203.0.113.7"), "tcp", 80, packets=9, idle=0.0, redirected=8000),
    Sighting(ip_address("fd00:5::66"), "tcp", 8080, packets=2**40, idle=3500.0),
    Sighting(ip_address("2001:db8::1"), "sctp", 65535, packets=1, idle=60.0),
]


class Subject(Protocol):
    """A dataplane, and what packets would have left in its sets."""

    @property
    def dataplane(self) -> Dataplane: ...

    def leave(self, seen: list[Sighting]) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self.dataplane = MemoryDataplane()

    def leave(self, seen: list[Sighting]) -> None:
        self.dataplane.seen = seen


class InKernel:
    def __init__(self, net: Net) -> None:
        self.net = net
        self.dataplane = net.inside(net.host, NftablesDataplane)

    def leave(self, seen: list[Sighting]) -> None:
        lines = []
        for one in seen:
            port = f"{one.protocol} . {one.port}"
            counted = f"counter packets {one.packets} bytes 1"
            left = f"expires {SEEN_SECONDS - one.idle:.0f}s"
            where = f"seen{one.source.version}"
            lines.append((where, f"{one.source} . {port} {counted} {left}"))
            if one.forwarded:
                lines.append(("forwarded", port))
            if one.redirected is not None:
                leads = f"{one.protocol} . {one.redirected} . {one.port}"
                lines.append(("redirected", leads))
        text = "".join(f"add element {FAMILY_TABLE} {s} {{ {e} }}\n" for s, e in lines)
        inside = ["ip", "netns", "exec", self.net.host, "nft", "-f", "-"]
        subprocess.run(inside, input=text, text=True, check=True)


@pytest.fixture(params=["memory", pytest.param("kernel", marks=pytest.mark.kernel)])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "memory":
        yield InMemory()
        return
    require_root()
    with network() as net:
        yield InKernel(net)


def test_no_table_is_no_sighting(subject: Subject) -> None:
    """Before Neti's first start there is nothing to see, and that is no error."""
    assert subject.dataplane.sightings() == []


def test_empty_sets_are_no_sighting(subject: Subject) -> None:
    """A new table has seen nothing."""
    subject.dataplane.apply(TABLE)
    assert subject.dataplane.sightings() == []


def test_what_was_left_is_seen(subject: Subject) -> None:
    """Both families, every protocol that is recorded, counters beyond 32 bits, and the time."""
    subject.dataplane.apply(TABLE)
    began = time.monotonic()
    subject.leave(SEEN)
    found = {(s.source, s.protocol, s.port): s for s in subject.dataplane.sightings()}
    slack = time.monotonic() - began + 1.0
    assert len(found) == len(SEEN)
    for left in SEEN:
        seen = found[left.source, left.protocol, left.port]
        assert left.idle <= seen.idle <= left.idle + slack
        assert replace(seen, idle=left.idle) == left


def test_a_new_table_begins_empty(subject: Subject) -> None:
    """Replacing the table in full empties the sets: who wants to know must look before."""
    subject.dataplane.apply(TABLE)
    subject.leave(SEEN)
    subject.dataplane.apply(ANEW)
    assert subject.dataplane.sightings() == []


def test_removed_table_leaves_no_sighting(subject: Subject) -> None:
    """As after neti down."""
    subject.dataplane.apply(TABLE)
    subject.leave(SEEN)
    subject.dataplane.apply(Transaction((DeleteTable(),)))
    assert subject.dataplane.sightings() == []
