"""``neti open`` where no agent answers: what the kernel holds, and who said so."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from neti.clock import SteadyClock, SystemClock, boot_id
from neti.config import load
from neti.errors import DataplaneError
from neti.model.openings import Opening, Openings
from neti.model.settings import Settings
from neti.monitoring.opened import Answer
from neti.oneshot import openings_alone
from neti.ruleset.objects import KernelState
from neti.state.folder import StateFolder

MACHINE = "this machine"
ONE, NET = "opening4_32", "opening4_24"


@pytest.fixture(name="settings")
def _settings(tmp_path: Path) -> Settings:
    path = tmp_path / "neti.yml"
    path.write_text(
        f"registry: embedded:{tmp_path}/registry.db\ntable_files_path: {tmp_path}/state\n"
        "site: ec2\nidentity: {id: a, private: 10.0.0.5}\n"
    )
    made = load(path)
    folder = StateFolder(made.table_files_path)
    folder.load(MACHINE)
    steady = SteadyClock(SystemClock(), boot_id(), None)
    folder.save_clock(steady.mark())
    folder.save_openings(
        Openings(
            steady.now(),
            (
                opening("203.0.113.9/32", steady.now() + 3000, last=5433),
                opening("198.51.100.0/24", steady.now() + 2000),
                opening("203.0.113.8/32", steady.now() - 5),
            ),
        )
    )
    return made


def opening(source: str, until: float, *, last: int = 5432) -> Opening:
    return Opening(
        source=ip_network(source),
        proto="tcp",
        first=5432,
        last=last,
        until=until,
        seconds=3600,
        at=7.0,
        by="ann",
    )


def shown(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, kernel: KernelState | None
) -> Answer:
    class Kernel:
        def read(self) -> KernelState:
            if kernel is None:
                raise DataplaneError("not permitted")
            return kernel

        def close(self) -> None:
            return None

    monkeypatch.setattr(openings_alone, "NftablesDataplane", Kernel)
    return openings_alone.opened(settings, MACHINE)


def test_what_the_kernel_holds_counts_and_the_disk_says_who_said_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {
        ONE: {
            "203.0.113.9 . tcp . 5432": 900,
            "203.0.113.9 . tcp . 5433": 800,
            "203.0.113.7 . udp . 53": 60,
        },
        NET: {},
    }
    kernel = KernelState(structure="table", timed=held)  # type: ignore[arg-type]
    answer = shown(settings, monkeypatch, kernel)
    assert [(one.port, one.to, one.seconds_left, one.by) for one in answer.opened] == [
        ("5432-5433/tcp", "203.0.113.9", 800.0, "ann"),
        ("53/udp", "203.0.113.7", 60.0, "nobody on record"),
    ]
    assert answer.stage == "shadow"
    assert answer.notes == (
        "the agent does not answer: this is what the kernel holds, and the disk says who said so",
        "5432/tcp to 198.51.100.0/24 is on disk, and not in the kernel: it is closed",
    )


def test_without_a_table_nothing_is_open(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = shown(settings, monkeypatch, KernelState(structure=None))
    assert (answer.stage, answer.opened, len(answer.notes)) == ("down", (), 3)


def test_who_may_not_see_the_kernel_sees_the_disk_and_is_told_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is over by its own clock is not among it."""
    answer = shown(settings, monkeypatch, None)
    assert [(one.port, one.to) for one in answer.opened] == [
        ("5432/tcp", "198.51.100.0/24"),
        ("5432-5433/tcp", "203.0.113.9"),
    ]
    assert 1900 < answer.opened[0].seconds_left <= 2000
    assert "only root may look at the kernel" in answer.notes[0]
