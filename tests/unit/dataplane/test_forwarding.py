"""Forwarding of a gateway's interfaces, whoever is killed or changes it meanwhile."""

import errno
import json
from pathlib import Path

import pytest

from neti.dataplane.forwarding import Forwarding, NotNoted
from neti.errors import DataplaneError


class FakeInterfaces:
    """``dies``: before the change of this interface."""

    def __init__(self, **on: bool) -> None:
        self.on = on
        self.dies = ""

    def forwards(self, name: str) -> bool | None:
        return self.on.get(name)

    def forward(self, name: str, on: bool) -> None:
        if name == self.dies:
            raise KeyboardInterrupt
        if name in self.on:
            self.on[name] = on


@pytest.fixture
def kernel() -> FakeInterfaces:
    return FakeInterfaces(eth0=False, eth1=True, eth2=False)


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    (tmp_path / "boot_id").write_text("one\n")
    return tmp_path / "boot_id"


def made(tmp_path: Path, kernel: FakeInterfaces, boot: Path) -> Forwarding:
    return Forwarding(tmp_path, kernel, boot)


def test_only_what_was_switched_on_is_switched_back(
    tmp_path: Path, kernel: FakeInterfaces, boot: Path
) -> None:
    door = made(tmp_path, kernel, boot)
    assert door.missing(("eth0", "eth1", "gone")) == ("eth0",)
    assert door.follow(("eth0", "eth1", "gone")) == ("eth0",)
    assert kernel.on == {"eth0": True, "eth1": True, "eth2": False}
    assert made(tmp_path, kernel, boot).put_back()
    assert kernel.on == {"eth0": False, "eth1": True, "eth2": False}
    assert not (tmp_path / "forwarding.json").exists()
    assert not door.put_back()


def test_an_uplink_that_is_none_any_more_forwards_no_more(
    tmp_path: Path, kernel: FakeInterfaces, boot: Path
) -> None:
    door = made(tmp_path, kernel, boot)
    door.follow(("eth0", "eth1"))
    assert door.follow(("eth2",)) == ("eth2",)
    assert kernel.on == {"eth0": False, "eth1": True, "eth2": True}
    assert door.follow(()) == ()
    assert kernel.on == {"eth0": False, "eth1": True, "eth2": False}


def test_killed_between_the_note_and_the_change(
    tmp_path: Path, kernel: FakeInterfaces, boot: Path
) -> None:
    """And the next one knows that it is ours, though somebody switched it on again meanwhile."""
    kernel.dies = "eth2"
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, kernel, boot).follow(("eth0", "eth2"))
    kernel.dies = ""
    made(tmp_path, kernel, boot).follow(("eth0", "eth2"))
    assert kernel.on == {"eth0": True, "eth1": True, "eth2": True}
    made(tmp_path, kernel, boot).put_back()
    assert kernel.on == {"eth0": False, "eth1": True, "eth2": False}


def test_after_a_reboot_what_is_on_is_the_machines_own(
    tmp_path: Path, kernel: FakeInterfaces, boot: Path
) -> None:
    made(tmp_path, kernel, boot).follow(("eth0",))
    boot.write_text("two\n")
    assert not made(tmp_path, kernel, boot).put_back()
    assert kernel.on["eth0"]


TORN = ("", "[]", '{"boot": "one"}', "\0")


@pytest.mark.parametrize("text", TORN)
def test_a_torn_note_keeps_no_gateway_from_passing_on(
    tmp_path: Path, kernel: FakeInterfaces, boot: Path, text: str
) -> None:
    """As after a reboot: what does not forward was switched on by nobody."""
    (tmp_path / "forwarding.json").write_text(text)
    assert made(tmp_path, kernel, boot).follow(("eth0",)) == ("eth0",)
    assert kernel.on["eth0"]
    assert made(tmp_path, kernel, boot).put_back()
    assert not kernel.on["eth0"]


@pytest.mark.parametrize("text", TORN)
def test_a_torn_note_is_named_where_it_may_be_of_this_boot(
    tmp_path: Path, kernel: FakeInterfaces, boot: Path, text: str
) -> None:
    (tmp_path / "forwarding.json").write_text(text)
    door = made(tmp_path, kernel, boot)
    for _ in range(2):
        with pytest.raises(NotNoted, match="remove it"):
            door.follow(("eth1",))
    for ended in (lambda: door.follow(()), door.put_back):
        with pytest.raises(DataplaneError, match="remove it"):
            ended()
    assert kernel.on["eth1"]


def test_what_is_noted(tmp_path: Path, kernel: FakeInterfaces, boot: Path) -> None:
    made(tmp_path, kernel, boot).follow(("eth0", "eth2"))
    held = json.loads((tmp_path / "forwarding.json").read_text())
    assert held == {"boot": "one", "on": ["eth0", "eth2"]}


def fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("neti.durable.replace", refuses)


def test_a_full_disk_keeps_no_gateway_from_passing_on(
    tmp_path: Path, kernel: FakeInterfaces, boot: Path
) -> None:
    """It is said as long as it lasts. Then the note has what was switched on meanwhile."""
    door = made(tmp_path, kernel, boot)
    with pytest.MonkeyPatch.context() as full:
        fill_the_disk(full)
        for _ in range(2):
            with pytest.raises(NotNoted, match=r"of eth0 is on.*No space left.*may leave it on"):
                door.follow(("eth0", "eth1"))
            assert kernel.on == {"eth0": True, "eth1": True, "eth2": False}
    assert door.follow(("eth0", "eth1")) == ()
    assert made(tmp_path, kernel, boot).put_back()
    assert kernel.on == {"eth0": False, "eth1": True, "eth2": False}


def test_what_is_not_noted_is_switched_back_by_the_process_that_switched_it_on(
    tmp_path: Path, kernel: FakeInterfaces, boot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one takes it for the machine's own."""
    fill_the_disk(monkeypatch)
    door = made(tmp_path, kernel, boot)
    for wanted in (("eth0",), ("eth2",)):
        with pytest.raises(NotNoted):
            door.follow(wanted)
    assert kernel.on == {"eth0": False, "eth1": True, "eth2": True}
    assert not made(tmp_path, kernel, boot).put_back()
    assert door.put_back()
    assert kernel.on == {"eth0": False, "eth1": True, "eth2": False}
    assert not door.put_back()


def test_where_nothing_was_switched_on_nothing_is_written(
    tmp_path: Path, kernel: FakeInterfaces, boot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that cannot be written keeps no host from coming down."""

    def refuses(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuses)
    assert not made(tmp_path, kernel, boot).put_back()
