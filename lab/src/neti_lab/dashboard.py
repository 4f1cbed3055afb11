"""The dashboard of a lab: on this machine's own loopback, with the lab's registry behind it.

Its process is in the namespace of one host, where the registry is; the socket that it answers on
was opened outside, and stays there. Must never do: leave its link where another user can read it.
"""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, Final

import yaml

from neti_lab import LabError, agents, namespaces, processes
from neti_lab.state import LabState
from neti_lab.topology import LabPlan

NAME: Final = "dashboard"
_USER: Final = "nobody"
# As systemd hands over a socket (sd_listen_fds(3)): it is number 3, and LISTEN_PID is the number of
# this very process, which no one knows before it is there.
_HAND_OVER: Final = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[2], sys.argv[2:])
"""
_PATIENCE: Final = 60.0  # seconds


def start(plan: LabPlan, state: LabState) -> str:
    """Returns the link, once it answers. Raises LabError."""
    host = plan.site("vpc").hosts[0] if plan.site("vpc").hosts else plan.hosts[0]
    config = str(_configuration(plan, state))
    words = agents.neti_command("dashboard", "--config", config, "--to", "vpc")
    inside = namespaces.command_inside(plan.namespace(host.name), words)
    # It ends when nobody can read any more what it says, so that goes into a file.
    state.dashboard_link.touch(mode=0o600)
    said = state.dashboard_link.open("w")
    with said, _log(state) as log, socket.create_server(("127.0.0.1", 0)) as listening:
        child = subprocess.Popen(
            [sys.executable, "-c", _HAND_OVER, str(listening.fileno()), *inside],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=log,
            cwd="/",
            start_new_session=True,
            pass_fds=(listening.fileno(),),
        )
    found = processes.find(child.pid)
    child.returncode = 0  # its end is looked up in /proc; no warning that nobody waited for it
    if found is not None:
        processes.remember(found, state.record(NAME))
    ends = time.monotonic() + _PATIENCE
    while found is not None and found.alive and time.monotonic() < ends:
        if link := state.dashboard():
            return link
        time.sleep(0.05)
    raise LabError(f"the dashboard does not start: {processes.last_line(state.log(NAME))}")


def _log(state: LabState) -> IO[Any]:
    path = state.log(NAME)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("ab")


def _configuration(plan: LabPlan, state: LabState) -> Path:
    """One that the user may read as whom the dashboard goes on, with an operator's certificate
    where there is any."""
    user = pwd.getpwnam(_USER)
    folder = state.dashboard_folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    document = agents.configuration(plan, plan.hosts[0], state=state)
    if state.operator_config.exists():
        document = yaml.safe_load(state.operator_config.read_text())
        kept = document["registry_tls"]
        document["registry_tls"] = {
            what: shutil.copyfile(path, folder / Path(path).name).as_posix()
            for what, path in kept.items()
        }
    written = folder / "neti.yml"
    written.write_text(yaml.safe_dump(document, sort_keys=False))
    for path in (*folder.iterdir(), folder):
        path.chmod(0o700 if path == folder else 0o600)
        os.chown(path, user.pw_uid, user.pw_gid)
    return written
