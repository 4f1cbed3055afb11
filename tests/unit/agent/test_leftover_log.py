"""``leftovers.json``: what survives a restart, and what becomes of a file that cannot be used."""

import json
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from tests.support.agents import FakeConnections

from neti import durable
from neti.agent.leftover_log import FILE, LeftoverLog, read
from neti.clock import SteadyClock, SystemClock
from neti.dataplane.memory import MemoryDataplane
from neti.dataplane.reconciler import Reconciler
from neti.model.settings import Settings
from neti.registry.detail import MAX_LEFT
from neti.ruleset.objects import CreateTable, Transaction
from neti.ruleset.policy import structure
from neti.ruleset.surroundings import Surroundings
from neti.stage.leftovers import Call

DB = IPv4Address("10.0.0.12")
STRUCTURE = structure(Settings(path=Path("neti.yml")), Surroundings(uplinks=(), ssh_untracked=True))


@dataclass
class UnderTest:
    folder: Path
    machine: str = "this machine"
    boot: str = "boot"

    def __post_init__(self) -> None:
        self.dataplane = MemoryDataplane()
        self.dataplane.apply(Transaction((CreateTable(STRUCTURE),)))
        self.start()

    def start(self) -> None:
        self.log = LeftoverLog(
            self.folder,
            self.machine,
            Reconciler(self.dataplane, FakeConnections(), None),
            SteadyClock(SystemClock(), "boot"),
            boot=self.boot,
            whose=lambda wanted, _: dict.fromkeys(wanted, "db-1"),
        )

    def calls(self, packets: int) -> None:
        self.dataplane.called = [Call(b"k", DB, "tcp", 5432, packets, 0.0, user=7)]
        self.log.sample()

    @property
    def counted(self) -> int:
        return sum(row.calls for row in self.log.account.rows.values())


@pytest.fixture
def host(tmp_path: Path) -> UnderTest:
    return UnderTest(tmp_path)


def test_a_restart_counts_nothing_twice(host: UnderTest) -> None:
    host.calls(3)
    host.log.stop()
    host.start()
    host.calls(4)
    assert host.counted == 4


def test_a_kernel_of_another_boot_counts_from_zero(host: UnderTest) -> None:
    """The rules were loaded before the agent, so it never emptied anything."""
    host.calls(3)
    host.log.stop()
    host.boot = "another"
    host.start()
    host.calls(5)
    assert host.counted == 8


def test_the_document_gets_the_latest_and_how_many_there_are_besides(host: UnderTest) -> None:
    """A host may call thousands of ports; making the document must not grow with them."""
    host.dataplane.called = [
        Call(b"%d" % port, DB, "tcp", port, 1, float(port), user=7) for port in range(1, 101)
    ]
    host.log.sample()
    left, more = host.log.latest()
    assert [one.port for one in left] == [f"{port}/tcp" for port in range(1, MAX_LEFT + 1)]
    assert len(left) + more == 100


def test_nothing_new_writes_nothing(host: UnderTest) -> None:
    host.calls(3)
    host.log.stop()
    before = (host.folder / FILE).stat().st_ino
    host.log.stop()
    assert (host.folder / FILE).stat().st_ino == before


@pytest.mark.parametrize("what", ["torn", "foreign", "newer", "nonsense"])
def test_a_file_that_cannot_be_used_is_named_and_the_record_begins_anew(
    host: UnderTest, what: str
) -> None:
    host.calls(3)
    host.log.stop()
    path = host.folder / FILE
    document = json.loads(path.read_bytes().partition(b" ")[2])
    match what:
        case "torn":
            path.write_bytes(path.read_bytes()[:-9])
        case "foreign":
            path.write_bytes(durable.line({**document, "machine": "another"}))
        case "newer":
            path.write_bytes(durable.line({**document, "format": 99}))
        case "nonsense":
            path.write_bytes(durable.line({**document, "rows": [3]}))
    account, faults = read(host.folder, host.machine, SteadyClock(SystemClock(), "boot"), "boot")
    assert account.rows == {}
    (fault,) = faults
    assert str(path) in fault
    host.start()
    host.calls(5)
    host.log.stop()
    host.start()
    assert host.counted == 5
    assert (host.folder / f"{FILE}.newer").exists() is (what == "newer")


def test_a_kernel_that_cannot_be_read_is_said(
    host: UnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neti.errors import DataplaneError

    def fails() -> list[Call]:
        raise DataplaneError("no")

    monkeypatch.setattr(host.dataplane, "leftovers", fails)
    host.log.sample()
    assert host.log.fault == "no"
