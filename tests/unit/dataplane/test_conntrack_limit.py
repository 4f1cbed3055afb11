"""conntrack_max: what it is raised to, what is remembered, and that ``down`` finds its way back.

The machine's own limit is only ever read: what is written goes to files in a folder of the test.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.agents import world

from neti.agent.conntrack import Tracking
from neti.agent.told import Reload
from neti.dataplane import conntrack_limit
from neti.dataplane.conntrack_limit import ConntrackLimit, Fill, Paths, Seen, decide, read_fill
from neti.errors import DataplaneError
from neti.model.problems import Problems

GIB = 1 << 30
SMALL = Seen(memory=2 * GIB, limit=131_072, buckets=131_072, tracked=0, sockets=50)


@pytest.mark.parametrize(
    ("wanted", "seen", "limit", "buckets"),
    [
        ("auto", SMALL, 131_072, 131_072),  # as much as memory calls for: nothing to do
        ("auto", replace(SMALL, memory=64 * GIB, limit=262_144), 1_048_576, 1_048_576),
        ("auto", replace(SMALL, memory=8 * GIB, limit=262_144, buckets=262_144), 524_288, 262_144),
        ("auto", replace(SMALL, sockets=20_000), 160_000, 131_072),
        ("auto", replace(SMALL, tracked=100_000), 200_000, 131_072),
        ("auto", replace(SMALL, sockets=2_000_000), 262_144, 131_072),  # 1/16 of the memory
        ("auto", replace(SMALL, limit=5_000_000), 5_000_000, 131_072),  # somebody knew better
        ("auto", replace(SMALL, memory=0), 131_072, 131_072),  # unreadable: nothing is raised
        (200_000, SMALL, 200_000, 131_072),
        (1024, SMALL, 131_072, 131_072),
        (2**31 - 1, SMALL, 262_144, 131_072),
    ],
)
def test_what_is_called_for(
    wanted: conntrack_limit.Wanted, seen: Seen, limit: int, buckets: int
) -> None:
    """By memory, sockets and what is tracked; by a number; within the memory's share."""
    decision = decide(wanted, seen)
    assert (decision.limit, decision.buckets) == (limit, buckets)


_numbers = st.integers(0, 2**40)


@given(
    wanted=st.one_of(st.just("auto"), st.integers(1024, 2**31 - 1)),
    seen=st.builds(
        Seen, memory=_numbers, limit=_numbers, buckets=_numbers, tracked=_numbers, sockets=_numbers
    ),
)
def test_never_lower_and_never_beyond_the_memory(
    wanted: conntrack_limit.Wanted, seen: Seen
) -> None:
    """Whatever the machine: never less than is there, and new room within 1/16 of memory."""
    decision = decide(wanted, seen)
    assert decision.limit >= seen.limit
    assert decision.buckets >= seen.buckets or decision.buckets == decision.limit
    if decision.limit > seen.limit:
        assert decision.limit * conntrack_limit.BYTES_PER_ENTRY <= seen.memory / 16
    else:
        assert decision.buckets == seen.buckets


def test_a_number_that_is_not_kept_to_is_explained() -> None:
    """Too low and too high are both said; what is done as asked is not."""
    assert "never lowers" in (decide(1024, SMALL).note or "")
    assert "2048 MiB" in (decide(10**9, SMALL).note or "")
    assert decide(200_000, SMALL).note is None
    assert decide("auto", SMALL).note is None


# --- the files ---


def _killed() -> bool:
    raise KeyboardInterrupt


class FakeKernel:
    """A folder with the kernel's files in it: 8 GiB, so that auto means 524,288."""

    def __init__(self, folder: Path) -> None:
        self.paths = Paths(
            limit=folder / "max",
            tracked=folder / "count",
            buckets=folder / "buckets",
            hash_size=folder / "hashsize",
            memory=folder / "meminfo",
            sockets=(folder / "sockstat", folder / "sockstat6"),
            boot=folder / "boot_id",
        )
        self.paths.boot.write_text("first boot\n")
        self.paths.memory.write_text("MemTotal:        8388608 kB\nMemFree: 1 kB\n")
        self.paths.sockets[0].write_text(
            "sockets: used 12\nTCP: inuse 30 orphan 0 tw 20 alloc 1 mem 0\nUDP: inuse 7 mem 0\n"
        )
        self.paths.tracked.write_text("10\n")
        self.load()

    def load(self) -> None:
        self.paths.limit.write_text("131072\n")
        self.paths.buckets.write_text("131072\n")

    def unload(self) -> None:
        for path in (self.paths.limit, self.paths.buckets):
            path.unlink()

    def limit(self) -> int:
        return int(self.paths.limit.read_text())

    def buckets(self) -> int:
        return int(self.paths.buckets.read_text())


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    folder = tmp_path / "kernel"
    folder.mkdir()
    return FakeKernel(folder)


@pytest.fixture
def limit(kernel: FakeKernel, tmp_path: Path) -> ConntrackLimit:
    return ConntrackLimit(tmp_path, paths=kernel.paths)


def test_raised_and_put_back(kernel: FakeKernel, limit: ConntrackLimit, tmp_path: Path) -> None:
    """Limit and buckets go up, and down brings back exactly what was there, once."""
    assert limit.raise_to("auto") == ()
    assert (kernel.limit(), kernel.buckets()) == (524_288, 524_288)
    assert limit.put_back() == ()
    assert (kernel.limit(), kernel.buckets()) == (131_072, 131_072)
    assert not (tmp_path / "conntrack.json").exists()
    kernel.paths.limit.write_text("777777\n")
    assert limit.put_back() == ()
    assert kernel.limit() == 777_777


def test_raised_twice_still_goes_back_to_the_first(
    kernel: FakeKernel, limit: ConntrackLimit, tmp_path: Path
) -> None:
    """A reload with a larger number, a restart in between: the value before Neti comes back."""
    limit.raise_to(200_000)
    again = ConntrackLimit(tmp_path, paths=kernel.paths)
    again.raise_to(300_000)
    assert kernel.limit() == 300_000
    again.put_back()
    assert kernel.limit() == 131_072


@pytest.mark.parametrize("killed_before", ["max", "buckets"])
def test_killed_between_the_note_and_the_change(
    kernel: FakeKernel,
    limit: ConntrackLimit,
    tmp_path: Path,
    killed_before: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed before either write, an earlier raise behind it: still back to the first value."""
    limit.raise_to(200_000)
    write = conntrack_limit._write

    def dying(path: Path, value: int) -> None:
        if path.name == killed_before:
            raise KeyboardInterrupt
        write(path, value)

    with monkeypatch.context() as patched:
        patched.setattr(conntrack_limit, "_write", dying)
        with pytest.raises(KeyboardInterrupt):
            limit.raise_to(500_000)
    assert kernel.limit() == (200_000 if killed_before == "max" else 500_000)
    restarted = ConntrackLimit(tmp_path, paths=kernel.paths)
    restarted.raise_to(510_000)
    assert kernel.limit() == 510_000
    restarted.put_back()
    assert (kernel.limit(), kernel.buckets()) == (131_072, 131_072)


def test_killed_in_the_middle_of_putting_back(
    kernel: FakeKernel, limit: ConntrackLimit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second down goes on where the first was killed."""
    limit.raise_to("auto")
    with monkeypatch.context() as patched:
        patched.setattr(limit, "_set_buckets", lambda _value: _killed())
        with pytest.raises(KeyboardInterrupt):
            limit.put_back()
    limit.put_back()
    assert (kernel.limit(), kernel.buckets()) == (131_072, 131_072)


def test_somebody_elses_value_stays(kernel: FakeKernel, limit: ConntrackLimit) -> None:
    """Changed meanwhile: down leaves it and says so; a later raise goes back to that one."""
    limit.raise_to("auto")
    kernel.paths.limit.write_text("600000\n")
    assert "Neti did not set" in " ".join(limit.put_back())
    assert kernel.limit() == 600_000
    limit.raise_to(700_000)
    limit.put_back()
    assert kernel.limit() == 600_000


def test_another_boots_memory_is_not_used(kernel: FakeKernel, limit: ConntrackLimit) -> None:
    """After a reboot the machine's own value may be the very number that Neti had set."""
    limit.raise_to("auto")
    kernel.paths.boot.write_text("second boot\n")
    limit.put_back()
    assert kernel.limit() == 524_288


def test_not_put_back_under_what_is_tracked(kernel: FakeKernel, limit: ConntrackLimit) -> None:
    """That would drop somebody's new connections: it waits for another down."""
    limit.raise_to("auto")
    kernel.paths.tracked.write_text("200000\n")
    assert "again later" in " ".join(limit.put_back())
    assert kernel.limit() == 524_288
    kernel.paths.tracked.write_text("2000\n")
    assert limit.put_back() == ()
    assert kernel.limit() == 131_072


def test_the_module_is_loaded_first_where_it_is_not_there(
    kernel: FakeKernel, tmp_path: Path
) -> None:
    """The file appears when ctnetlink is asked: raised before the first rule all the same."""
    kernel.unload()
    assert ConntrackLimit(tmp_path, paths=kernel.paths).fill() is None
    assert "does not exist yet" in " ".join(
        ConntrackLimit(tmp_path, paths=kernel.paths).raise_to("auto")
    )
    limit = ConntrackLimit(tmp_path, paths=kernel.paths, load=kernel.load)
    assert limit.raise_to("auto") == ()
    assert kernel.limit() == 524_288


def test_a_torn_file_is_named(kernel: FakeKernel, limit: ConntrackLimit, tmp_path: Path) -> None:
    """Nothing is changed by what cannot be read."""
    (tmp_path / "conntrack.json").write_text('{"boot": "first')
    with pytest.raises(DataplaneError, match=r"conntrack\.json.*remove it"):
        limit.raise_to("auto")
    with pytest.raises(DataplaneError, match=r"conntrack\.json.*remove it"):
        limit.put_back()
    assert kernel.limit() == 131_072


def test_a_kernel_that_refuses_is_named(tmp_path: Path) -> None:
    """With the path and the value."""
    with pytest.raises(DataplaneError, match="/proc/version: the kernel refused 5"):
        conntrack_limit._write(Path("/proc/version"), 5)


def test_buckets_by_the_module_where_the_sysctl_is_read_only(
    kernel: FakeKernel, limit: ConntrackLimit
) -> None:
    """The second way to resize the hash table."""
    kernel.paths.buckets.unlink()
    kernel.paths.buckets.symlink_to("/proc/version")
    kernel.paths.hash_size.write_text("131072\n")
    limit.raise_to("auto")
    assert kernel.paths.hash_size.read_text() == "524288\n"


def test_the_real_kernels_files_are_read() -> None:
    """The default paths are the kernel's: read only, and the numbers make sense."""
    fill = read_fill()
    if not Paths().limit.exists():
        assert fill is None
    else:
        assert fill is not None
        assert fill.limit >= 1024
        assert 0 <= fill.tracked <= fill.limit
    assert conntrack_limit._memory(Paths().memory) > 1 << 26
    assert conntrack_limit._sockets(Path("/proc/net/sockstat")) >= 0


@pytest.mark.parametrize(("tracked", "warned"), [(79, False), (80, True), (100, True)])
def test_warned_about_at_eighty_percent(tracked: int, warned: bool) -> None:
    """With numbers, and what to do."""
    problem = Fill(tracked, 100).problem
    assert (problem is not None) is warned
    if problem is not None:
        assert f"{tracked} of 100" in problem
        assert "conntrack_max" in problem


# --- in the agent ---


def test_the_agents_problem_comes_and_goes(kernel: FakeKernel, limit: ConntrackLimit) -> None:
    """At 80 % a problem, below it none."""
    problems = Problems()
    tracking = Tracking(limit, problems)
    tracking.raise_to("auto")
    assert not list(problems)
    kernel.paths.tracked.write_text("500000\n")
    tracking.tick("auto")
    assert "95 % full" in problems.sentence("conntrack")
    kernel.paths.tracked.write_text("5\n")
    tracking.tick("auto")
    assert not list(problems)
    assert tracking.fill == Fill(5, 524_288)


def test_an_operator_who_lowers_it_again_is_left_alone(
    kernel: FakeKernel, limit: ConntrackLimit
) -> None:
    """Raised once for a setting; a new setting and an 'up' raise again."""
    tracking = Tracking(limit, Problems())
    tracking.raise_to("auto")
    kernel.paths.limit.write_text("150000\n")
    tracking.tick("auto")
    assert kernel.limit() == 150_000
    tracking.raise_to(200_000)
    assert kernel.limit() == 200_000
    tracking.put_back()
    assert kernel.limit() == 150_000
    tracking.raise_to(200_000)
    assert kernel.limit() == 200_000


def test_what_the_kernel_refuses_is_a_problem_and_no_error(
    kernel: FakeKernel, limit: ConntrackLimit, tmp_path: Path
) -> None:
    """The agent goes on without; the next tick tries again."""
    problems = Problems()
    (tmp_path / "conntrack.json").write_text(json.dumps(["not ours"]))
    tracking: Tracking = Tracking(limit, problems)
    tracking.raise_to("auto")
    assert "remove it" in problems.sentence("conntrack_max")
    tracking.put_back()
    (tmp_path / "conntrack.json").unlink()
    tracking.tick("auto")
    assert not list(problems)
    assert kernel.limit() == 524_288


def test_without_a_limit_nothing_happens() -> None:
    """Agents of tests have none."""
    problems = Problems()
    tracking = Tracking(None, problems)
    tracking.raise_to("auto")
    tracking.tick(5)
    tracking.put_back()
    assert (tracking.fill, len(problems)) == (None, 0)


def test_through_an_agents_life(kernel: FakeKernel, limit: ConntrackLimit, tmp_path: Path) -> None:
    """Raised at the start, shown in status, put back by down, raised by up and by a reload."""
    with world(tmp_path) as fleet:
        box = fleet.box(1)
        box.conntrack_limit = limit
        box.start()
        fleet.settle()
        assert kernel.limit() == 524_288
        assert box.status()["conntrack"] == {"tracked": 10, "limit": 524_288, "percent": 0.0}
        kernel.paths.tracked.write_text("500000\n")
        fleet.pass_time(61)
        assert "95 % full" in box.problems()["conntrack"]
        kernel.paths.tracked.write_text("10\n")
        box.ask("down")
        assert kernel.limit() == 131_072
        box.ask("up")
        assert kernel.limit() == 524_288
        box.new_settings = replace(box.settings, conntrack_max=600_000)
        box.running.tell(Reload())
        fleet.settle()
        assert kernel.limit() == 600_000
