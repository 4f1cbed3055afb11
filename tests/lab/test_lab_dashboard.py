"""``neti lab up --dashboard``: a lab's fleet in a browser of this machine."""

import os
import pwd
import re
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.dashboards import Dashboard

from neti_lab.state import LabState

Neti = Callable[..., subprocess.CompletedProcess[str]]


def test_the_page_is_on_this_machine_and_the_registry_in_the_lab(
    lab: LabState, neti_lab: Neti
) -> None:
    built = neti_lab("up", "--hosts", "1", "--dashboard")
    assert built.returncode == 0, built.stderr
    link = re.search(r"http://\S+\.localhost:\d+/#token=\S+", built.stdout)
    assert link is not None
    there = Dashboard(link[0])
    process = lab.process("dashboard")
    assert process is not None
    assert _user(process.pid) in ("neti", "nobody")
    assert link[0] in neti_lab("status").stdout
    assert stat.S_IMODE(lab.dashboard_link.stat().st_mode) == 0o600
    assert there.token not in lab.log("dashboard").read_text()
    assert there.token.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    stages = _until(lambda: _stages(there), lambda held: set(held.values()) == {"shadow"})
    assert sorted(stages) == ["ec2-1", "vpc-1"]
    down = neti_lab("exec", "vpc-1", "neti", "down")
    assert down.returncode == 0, down.stderr
    _until(lambda: _stages(there), lambda held: held["vpc-1"] == "down")
    assert neti_lab("down").returncode == 0
    assert not process.alive
    assert not lab.dashboard_folder.exists()


def test_a_registry_that_only_root_may_open_is_refused(neti_lab: Neti, lab: LabState) -> None:
    refused = neti_lab("up", "--hosts", "1", "--dashboard", "--registry", "embedded")
    assert refused.returncode == 2
    assert "takes another registry than embedded" in refused.stderr
    assert not lab.exists


def _stages(there: Dashboard) -> dict[str, str]:
    answer = there.ask("/data/fleet")
    if answer.status != 200:
        return {}
    shown = answer.json()
    hosts = (dict(zip(shown["columns"], one, strict=True)) for one in shown["hosts"])
    return {host["id"]: host["shade"] for host in hosts}


def _until(
    look: Callable[[], dict[str, str]], is_so: Callable[[dict[str, str]], bool]
) -> dict[str, str]:
    end, held = time.monotonic() + 60, dict[str, str]()
    while time.monotonic() < end:
        held = look()
        if held and is_so(held):
            return held
        time.sleep(0.2)
    raise AssertionError(f"not so within a minute: {held}")


def _user(pid: int) -> str:
    return pwd.getpwuid(os.stat(f"/proc/{pid}").st_uid).pw_name
