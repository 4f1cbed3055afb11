"""A control group of version 2, as a service of systemd has one."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

_MOUNTS: Final = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))


@contextmanager
def control_group(unit: str) -> Iterator[Path]:
    """Its folder, two deep as a service's is; gone afterwards."""
    mount = next((one for one in _MOUNTS if (one / "cgroup.procs").exists()), None)
    if mount is None:
        pytest.skip("control groups of version 2 are not mounted here")
    above = mount / f"neti-test-{os.getpid()}.slice"
    above.mkdir(exist_ok=True)
    group = above / unit
    group.mkdir()
    try:
        yield group
    finally:
        group.rmdir()
        with suppress(OSError):  # others are in it still
            above.rmdir()


def entering(group: Path) -> Callable[[], None]:
    """For a process that begins: it gets into the group by itself."""

    def enter() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    return enter
