"""The shadow on disk: what survives what, and what the command makes of it without an agent."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.support.agents import FakeConnections

from neti import durable
from neti.agent import preview, shadow_log
from neti.agent.shadow_log import ShadowLog, read_alone
from neti.cli import cli
from neti.clock import ManualClock, Mark, SteadyClock
from neti.dataplane.memory import MemoryDataplane
from neti.dataplane.reconciler import Reconciler
from neti.errors import DataplaneError
from neti.identity.machine import fingerprint
from neti.model import Member, Reach, Site
from neti.model.settings import Settings
from neti.ruleset.delta import Elements
from neti.ruleset.policy import structure
from neti.ruleset.surroundings import Surroundings
from neti.stage.losses import losses
from neti.stage.preview import View, rows
from neti.stage.shadow import Listener, Port, Sighting
from neti.state.loaded import StateError

WEB: Port = ("tcp", 80)
SOURCE = ip_address("10.0.0.66")
STRUCTURE = structure(Settings(path=Path("neti.yml")), Surroundings(uplinks=(), ssh_untracked=True))


@dataclass
class Host:
    """What outlives an agent, and what an agent does with the shadow."""

    folder: Path
    machine: str = "this machine"
    kernel: MemoryDataplane = field(default_factory=MemoryDataplane)
    clock: ManualClock = field(default_factory=ManualClock)
    boot: str = "boot-1"
    mark: Mark | None = None  # as the agent notes it on disk

    def __post_init__(self) -> None:
        self.start()
        self.resync()

    def start(self) -> None:
        self.reconciler = Reconciler(self.kernel, FakeConnections(), None)
        self.steady = SteadyClock(self.clock, self.boot, self.mark)
        self.log = ShadowLog(self.folder, self.machine, self.reconciler, self.steady)

    def resync(self) -> None:
        """The table is one of another version, with other sets: all of it anew."""
        self.reconciler.seen = None
        if self.kernel.table is not None:
            self.kernel.table.sets = self.kernel.table.sets[1:]
        self.reconciler.resync(STRUCTURE, Elements(revoke_seconds=60))

    def packets(self, count: int, port: int = 80) -> None:
        """The counter stands at ``count``."""
        self.kernel.seen = [Sighting(SOURCE, "tcp", port, count, 0.0)]

    def tick(self, seconds: float = 30.0) -> None:
        self.clock.advance(seconds)
        self.log.tick()

    def counted(self) -> int:
        return counted(self.log)

    @property
    def file(self) -> Path:
        return self.folder / "shadow.jsonl"


def counted(log: ShadowLog) -> int:
    use = log.record.ports.get(WEB)
    return use.sources[SOURCE.packed].packets if use else 0


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_replaced_table_loses_nothing(host: Host) -> None:
    """What came since the last look is looked at right before the sets go; then they begin anew,
    and a counter that outgrew its old self is news all the same."""
    host.packets(3)
    host.tick()
    host.packets(5)
    host.resync()
    assert host.kernel.seen == []
    host.packets(7)
    host.tick()
    assert host.counted() == 12


def test_a_replacement_that_the_kernel_refuses_counts_nothing_twice(host: Host) -> None:
    """The sets were not emptied then."""
    host.packets(3)
    host.kernel.failing = "no"
    with pytest.raises(DataplaneError):
        host.resync()
    host.tick()
    assert host.counted() == 3


def test_down_keeps_what_was_seen(host: Host) -> None:
    """The sets go with the table, the record does not."""
    host.packets(3)
    host.reconciler.remove()
    host.tick()
    host.resync()
    host.packets(2)
    host.tick()
    assert host.counted() == 5


def test_a_stop_writes_and_a_start_goes_on(host: Host) -> None:
    """As an upgrade does: stopped, some packets, started; the kernel's counters ran on."""
    host.packets(3)
    host.log.stop()
    host.packets(4)
    host.start()
    assert host.counted() == 3
    host.tick()
    assert host.counted() == 4


def test_killed_it_goes_on_from_the_kernels_counters(host: Host) -> None:
    """What was not written yet is still in the kernel, and is not counted twice."""
    host.packets(3)
    host.tick(60)
    host.packets(4)
    host.tick(1)  # looked at, not written
    host.start()
    assert host.counted() == 3
    host.packets(6)
    host.tick()
    assert host.counted() == 6


def test_a_reboot_begins_with_empty_sets(host: Host) -> None:
    """The counters that were counted are the last boot's: the new ones are all news."""
    host.packets(3)
    host.log.stop()
    host.kernel = MemoryDataplane()
    host.start()
    host.resync()
    host.packets(5)
    host.tick()
    assert host.counted() == 8


def test_the_disk_is_written_when_something_changed_and_once_a_minute(host: Host) -> None:
    """Twenty looks with news are ten writes, and looks without news are none."""
    host.tick()
    lines = len(host.file.read_bytes().splitlines())
    for count in range(1, 21):
        host.packets(count)
        host.tick(30)
    assert len(host.file.read_bytes().splitlines()) == lines + 10
    host.log.stop()
    before = host.file.stat().st_mtime_ns, host.file.read_bytes()
    host.tick(3600)
    host.log.stop()
    assert (host.file.stat().st_mtime_ns, host.file.read_bytes()) == before


def test_the_file_is_rewritten_before_it_grows_for_ever(host: Host) -> None:
    """Its size follows what is known, not how long it runs."""
    for count in range(1, 6000):
        host.packets(count)
        host.log.stop()
    assert len(host.file.read_bytes().splitlines()) < 5200
    host.start()
    assert host.counted() == 5999


def test_since_is_when_the_record_began(host: Host) -> None:
    """Over restarts, also while nothing is seen."""
    began = host.log.record.since
    host.tick()
    host.mark = host.steady.mark()
    host.clock.advance(86_400)
    host.start()
    assert host.log.record.since == began


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[:-5],
        lambda line: line.replace(b'"80/tcp"', b'"81/tcp"'),
        lambda line: b"x\n",
    ],
)
def test_a_damaged_line_is_named_and_what_stands_before_is_used(
    host: Host, damage: Callable[[bytes], bytes]
) -> None:
    """Torn, edited, nonsense; and the next write makes the file whole again."""
    host.packets(3)
    host.tick(60)
    host.packets(9)
    host.tick(60)
    *good, last = host.file.read_bytes().splitlines(keepends=True)
    host.file.write_bytes(b"".join(good) + damage(last))
    host.start()
    assert host.log.faults == [
        f"{host.file}: line {len(good) + 1} is torn or edited; what comes before it is used"
    ]
    assert host.counted() == 3
    host.tick()
    host.start()
    assert host.log.faults == []
    assert host.counted() == 9


def test_another_machines_record_is_not_used(host: Host) -> None:
    """A golden image does not tell of another host's clients."""
    host.packets(3)
    host.log.stop()
    host.machine = "another machine"
    host.kernel.seen = []
    host.start()
    assert "another machine" in host.log.faults[0]
    host.tick()
    host.start()
    assert host.log.faults == []
    assert host.counted() == 0


def test_a_newer_versions_record_is_kept_and_not_used(host: Host) -> None:
    """A downgrade does not destroy what upgrading again can go on with."""
    host.packets(3)
    host.log.stop()
    head, *rest = host.file.read_bytes().splitlines(keepends=True)
    newer = durable.line({**durable.checked(head), "format": 99})
    host.file.write_bytes(newer + b"".join(rest))
    host.kernel.seen = []
    host.start()
    assert "written by another version" in host.log.faults[0]
    host.tick()
    host.start()
    assert host.log.faults == []
    assert host.counted() == 0
    kept = host.folder / "shadow.jsonl.newer"
    assert kept.read_bytes().startswith(newer)


def test_a_disk_that_fails_is_named_and_forgets_nothing(host: Host) -> None:
    """The looks go on, and all of it is written when the disk is back."""
    host.packets(3)
    host.tick()
    broken = host.folder.with_name(host.folder.name + "-aside")
    host.folder.rename(broken)
    host.folder.write_text("no folder")
    host.packets(4)
    with pytest.raises(StateError, match=r"shadow\.jsonl: cannot be written"):
        host.tick(60)
    host.packets(5)
    host.resync()  # not even this is held up
    host.folder.unlink()
    broken.rename(host.folder)
    host.tick()
    host.start()
    assert host.counted() == 5


def test_a_look_that_fails_is_named_and_over_with_the_next(host: Host) -> None:
    """The kernel's refusal stops nothing here."""

    def refuse() -> list[Sighting]:
        raise DataplaneError("netlink: no buffer space")

    look = host.kernel.sightings
    host.kernel.sightings = refuse  # type: ignore[method-assign]  # for this test
    host.tick()
    assert host.log.fault == "netlink: no buffer space"
    host.kernel.sightings = look  # type: ignore[method-assign]  # for this test
    host.tick()
    assert host.log.fault is None


def test_a_kernel_that_does_not_count_still_tells_who_would_be_lost(host: Host) -> None:
    """By time: a port in use is in use, and what a trial refuses of it is a loss. It is said that
    the counts are not the kernel's."""
    host.kernel.counts = False
    for _ in range(5):
        host.packets(1)
        host.tick()
    assert host.counted() == 5
    assert host.log.uncounted is not None
    began = host.log.now()
    server = Listener("tcp", 80, ip_address("0.0.0.0"))

    def lost() -> list[int]:
        return [loss.port for loss in losses(host.log.record, [server], (), began + 0.1).lost]

    assert lost() == []
    host.packets(1)
    host.tick()
    assert lost() == [80]
    view = View(listening=(server,), now=host.log.now())
    assert [row.rank for row in rows(host.log.record, view)] == ["used"]
    host.log.stop()
    host.start()
    host.tick()
    assert host.counted() == 7
    host.kernel.counts = True
    host.tick()
    assert host.log.uncounted is None


def test_full_sets_are_looked_at_less_often(host: Host) -> None:
    """A look costs what the sets hold, and must not cost more than a thousandth of the time."""
    assert host.log.pause == 30
    host.kernel.seen = [
        Sighting(ip_address(0x0A000000 + n), "tcp", 80, 1, 0.0) for n in range(16_384)
    ]
    host.tick()
    assert 60 < host.log.pause < 600


# --- what may be lost ---


def test_accepted_ports_are_kept_until_they_are_forgotten(tmp_path: Path) -> None:
    """One after the other, each with its time."""
    assert shadow_log.accepted(tmp_path) == {}
    shadow_log.accept_losing(tmp_path, [WEB], 5.0)
    shadow_log.accept_losing(tmp_path, [("udp", 53)], 6.0)
    assert shadow_log.accepted(tmp_path) == {WEB: 5.0, ("udp", 53): 6.0}
    shadow_log.forget_accepted(tmp_path)
    assert shadow_log.accepted(tmp_path) == {}


def test_a_damaged_list_of_accepted_ports_accepts_nothing(tmp_path: Path) -> None:
    """It is refused by name, and begun anew by being said again."""
    shadow_log.accept_losing(tmp_path, [WEB], 5.0)
    path = tmp_path / "accepted.json"
    path.write_bytes(path.read_bytes().replace(b"80/tcp", b"81/tcp"))
    with pytest.raises(StateError, match=r"accepted\.json: is torn or edited"):
        shadow_log.accepted(tmp_path)
    shadow_log.forget_accepted(tmp_path)
    assert shadow_log.accepted(tmp_path) == {}


def test_what_a_newer_version_accepted_is_not_used_and_is_kept(tmp_path: Path) -> None:
    shadow_log.accept_losing(tmp_path, [WEB], 5.0)
    path = tmp_path / "accepted.json"
    newer = durable.line({**durable.checked(path.read_bytes()), "format": 99})
    path.write_bytes(newer)
    with pytest.raises(StateError, match=r"accepted\.json: written by another version"):
        shadow_log.accepted(tmp_path)
    shadow_log.forget_accepted(tmp_path)
    assert shadow_log.accepted(tmp_path) == {}
    assert (tmp_path / "accepted.json.newer").read_bytes() == newer


# --- the command, without an agent ---


@pytest.mark.parametrize("step", [15 * 86_400.0, -86_400.0])
def test_who_sets_the_clock_neither_empties_the_record_nor_hides_what_comes(
    tmp_path: Path, step: float
) -> None:
    """What a trial refuses after a step back is still seen as refused since it began."""
    host = Host(tmp_path)
    host.clock.now = 1_800_000_000.0
    host.packets(5)
    host.tick()
    began = host.log.now()
    host.clock.set += step
    host.packets(7)
    host.tick(7_200.0)
    assert host.counted() == 7
    assert host.log.record.ports[WEB].sources[SOURCE.packed].last > began
    assert host.log.shown(host.log.now()) == host.clock.wall()


def test_fourteen_days_are_fourteen_days_whatever_the_clock_shows(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.clock.now = 1_800_000_000.0
    host.packets(5)
    host.tick()
    host.kernel.seen = []
    host.clock.set -= 30 * 86_400.0
    host.tick(13 * 86_400.0)
    assert host.counted() == 5
    host.tick(2 * 86_400.0)
    assert host.counted() == 0


def test_the_record_goes_on_across_a_reboot(tmp_path: Path) -> None:
    """The machine was off for a day by its clock, which was set by an hour before."""
    host = Host(tmp_path)
    host.clock.now = 1_800_000_000.0
    host.start()
    host.packets(5)
    host.tick()
    host.clock.set += 3_600.0
    host.log.stop()
    host.mark, host.boot = host.steady.mark(), "boot-2"
    host.clock.now += 86_400.0
    host.kernel.seen = []
    host.start()
    last = host.log.record.ports[WEB].sources[SOURCE.packed].last
    assert host.log.now() - last == pytest.approx(86_400.0)
    host.log.keep_whole()
    host.mark = host.steady.mark()
    host.start()  # once moved, it is not moved again
    assert host.log.record.ports[WEB].sources[SOURCE.packed].last == pytest.approx(last)


@pytest.fixture
def neti(tmp_path: Path) -> Callable[..., Result]:
    config = tmp_path / "neti.yml"
    state = tmp_path / "state"
    config.write_text(
        f"registry: embedded:{tmp_path}/registry.db\nsite: ec2\ntable_files_path: {state}\n"
    )
    return lambda *words: CliRunner().invoke(cli, ["preview", "-c", str(config), *words])


def test_preview_reads_the_disk_when_the_agent_is_away(
    neti: Callable[..., Result], tmp_path: Path
) -> None:
    """And says so."""
    state = tmp_path / "state"
    state.mkdir()
    host = Host(state, machine=fingerprint())
    host.clock.now = 1_800_000_000.0
    host.start()
    host.packets(3, port=9)
    host.log.stop()
    # Years later, and yet: the clock of this test is not the command's.
    record, faults = read_alone(state, fingerprint(), host.steady)
    assert (len(record), faults) == (1, [])
    text = neti()
    assert text.exit_code == 0, text.output
    assert text.stdout.startswith("The agent does not answer")
    document = json.loads(neti("--json", "--all").stdout)
    assert document["agent"] is False
    assert [row["port"] for row in document["ports"]] == [9]
    assert document["ports"][0]["top"][0]["address"] == "10.0.0.66"


@pytest.mark.parametrize(
    ("site", "reach", "blamed"),
    [
        ("ec2", Reach.PUBLIC, True),
        ("vpc", Reach.PUBLIC, False),  # its 10.0.0.66 is another host's here
        ("vpc", Reach.PRIVATE, True),
    ],
)
def test_a_member_is_named_for_addresses_that_are_its_own_here(
    host: Host, site: str, reach: Reach, blamed: bool
) -> None:
    """Private ranges of two sites may overlap."""
    host.packets(3)
    host.log.sample()
    settings = Settings(
        path=Path("neti.yml"),
        sites={"ec2": Site(name="ec2"), "vpc": Site(name="vpc", reached_by=reach)},
    )
    other = Member(
        id="b", site=site, private=IPv4Address("10.0.0.66"), public=None, overlay=IPv4Address(9)
    )
    seen_here = preview.seen_here(settings, "ec2")
    sources = preview.sources_of(host.log.record)
    found = preview.whose([other], "a", sources, lambda _address: False, seen_here)
    assert [one.id for one in found.values()] == (["b"] if blamed else [])


def test_accepting_and_forgetting_by_command(neti: Callable[..., Result], tmp_path: Path) -> None:
    """Said back, shown in the listing; a port without its protocol is refused with an example."""
    (tmp_path / "state").mkdir()
    done = neti("--accept-losing", "8080/tcp", "--accept-losing", "53/udp")
    assert done.stdout == "accepted as lost: 8080/tcp, 53/udp\n"
    assert "Accepted as lost: 8080/tcp, 53/udp." in neti().stdout
    assert neti("--take-back", "53/udp").stdout == "accepted as lost: 8080/tcp\n"
    never = neti("--take-back", "8080/tcp", "--take-back", "53/udp")
    assert never.exit_code == 1
    assert "never accepted as lost: 53/udp; accepted are: 8080/tcp" in never.output
    assert neti("--forget-accepted").stdout == "accepted as lost: nothing\n"
    refused = neti("--accept-losing", "8080")
    assert refused.exit_code == 2
    assert "such as 8080/tcp" in refused.output


def test_where_no_agent_ever_ran_it_says_so(neti: Callable[..., Result]) -> None:
    """And makes no folder."""
    for words in ((), ("--accept-losing", "80/tcp")):
        done = neti(*words)
        assert done.exit_code == 1
        assert "agent" in done.output
    assert [line for line in done.output.splitlines() if not line.lstrip().startswith("→")] == [
        done.output.splitlines()[0]
    ]


def test_watch_needs_a_terminal(neti: Callable[..., Result]) -> None:
    """It would fill a file with redraws."""
    done = neti("--watch")
    assert done.exit_code == 1
    assert "--watch needs a terminal" in done.output
