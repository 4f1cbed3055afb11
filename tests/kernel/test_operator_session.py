"""The operator's session behind a real sshd: as root, as a user, with sudo, detached, forwarded."""

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.support import netns
from tests.support.netns import Net, Server
from tests.support.sshd import PYTHON, SAY_SESSION, USER, Sshd, require_sshd, sshd

import neti
from neti.control import client
from neti.control.client import AgentUnreachable
from neti.host.ssh_session import open_sessions
from neti.stage.way_in import OperatorSession

pytestmark = pytest.mark.kernel

PORT = 2022
COMMAND = (PYTHON, str(SAY_SESSION))


@pytest.fixture
def host(net: Net) -> Iterator[Sshd]:
    require_sshd()
    with sshd(net, PORT) as running:
        yield running


def found(printed: str) -> OperatorSession | None:
    said = json.loads(printed)
    return OperatorSession.from_document(said) if said is not None else None


def is_the_admins(session: OperatorSession | None, client: str = netns.ADMIN) -> OperatorSession:
    assert session is not None
    assert session.client == ip_address(client)
    assert session.local_port == PORT
    return session


def test_as_root(host: Sshd) -> None:
    """Root's session is served by one process; the connection is read from it."""
    session = found(host.ssh(*COMMAND, user="root", source=netns.ADMIN, to=netns.PRIVATE))
    session = is_the_admins(session)
    assert (session.found, session.sure) == ("connection", True)
    assert session.local == ip_address(netns.PRIVATE)


def test_over_ipv6(host: Sshd) -> None:
    """The other family's table."""
    session = found(host.ssh(*COMMAND, user="root", source=netns.ADMIN6, to=netns.PRIVATE6))
    session = is_the_admins(session, netns.ADMIN6)
    assert session.found == "connection"


@pytest.mark.parametrize("sudo", [("sudo",), ("sudo", "env", "-i"), ("sudo", "sudo")], ids=" ".join)
def test_through_sudo(host: Sshd, sudo: tuple[str, ...]) -> None:
    """A user's session is served by two processes, and sudo takes the environment away."""
    session = found(host.ssh(*sudo, *COMMAND, user=USER, source=netns.ADMIN, to=netns.PRIVATE))
    session = is_the_admins(session)
    assert (session.found, session.sure) == ("connection", True)


def test_with_a_terminal(host: Sshd) -> None:
    """As typed: sudo may put a process between, for a terminal of its own."""
    printed = host.ssh(
        "sudo", *COMMAND, user=USER, source=netns.ADMIN, to=netns.PRIVATE, options=("-tt",)
    )
    assert is_the_admins(found(printed)).found == "connection"


def test_other_connections_through_the_same_session(net: Net, host: Sshd) -> None:
    """What root forwards is the same process's connection, and is not taken for the session."""
    Server(net, net.host, 7000)
    forward = f"127.0.0.1:7999:{netns.PRIVATE}:7000"
    line = host.line("root", netns.ADMIN, netns.PRIVATE, "-M", "-S", str(host.folder / "mux"))
    master = subprocess.Popen([*line[:-1], "-N", "-L", forward, line[-1]])
    try:
        through = _connected(net, 7999)
        mux = ("-S", str(host.folder / "mux"))
        # Without SSH_CONNECTION, so that only the order of the connections tells.
        words = ("env", "-i", *COMMAND)
        printed = host.ssh(*words, user="root", source=netns.ADMIN, to=netns.PRIVATE, options=mux)
        assert is_the_admins(found(printed)).found == "connection"
        assert netns.alive(through)
        through.close()
    finally:
        master.kill()
        master.wait()


def _connected(net: Net, port: int) -> socket.socket:
    deadline = time.monotonic() + 20
    while True:
        try:
            return netns.connect(net, net.outside, "127.0.0.1", port)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_who_is_in_is_seen_without_root(net: Net, host: Sshd) -> None:
    """By the kernel's table of connections, which shows nobody's processes."""

    def clients() -> list[str]:
        return [str(one.client) for one in net.inside(net.host, lambda: open_sessions({PORT}))]

    assert clients() == []
    line = host.line("root", netns.ADMIN, netns.PRIVATE)
    staying = subprocess.Popen([*line, "sleep", "60"])
    try:
        deadline = time.monotonic() + 20
        while clients() != [netns.ADMIN]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        staying.kill()
        staying.wait()


def test_detached_from_sshd_is_unsure(host: Sshd) -> None:
    """As in tmux: no SSH server above, and only an environment that may be old."""
    out = host.folder / "out"
    waiting = f"sleep 0.3; {PYTHON} {SAY_SESSION} > {out}.new; mv {out}.new {out}"
    # The shell in the middle ends, and its child becomes init's.
    host.ssh(
        f"(setsid sh -c '{waiting}' </dev/null >/dev/null 2>&1 &)",
        user="root",
        source=netns.ADMIN,
        to=netns.PRIVATE,
    )
    deadline = time.monotonic() + 20
    while not out.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    session = is_the_admins(found(out.read_text()))
    assert (session.found, session.sure) == ("environment", False)
    assert "no longer open" in session.how


def test_a_session_of_another_namespace_is_none(net: Net, host: Sshd) -> None:
    """Typed below sshd, run in a namespace that the connection does not go through."""
    printed = host.ssh(
        "ip",
        "netns",
        "exec",
        net.container,
        *COMMAND,
        user="root",
        source=netns.ADMIN,
        to=netns.PRIVATE,
    )
    assert found(printed) is None


# --- neti enforce ---

CONFIG = f"""\
registry: embedded:{{folder}}/registry.db
identity: {{{{id: a, private: {netns.PRIVATE}, public: 198.51.100.5}}}}
site: ec2
sites: {{{{ec2: {{{{private: [10.0.0.0/8]}}}}, vpc: {{{{private: [10.0.0.0/8]}}}}}}}}
ssh_whitelist: [{netns.ADMIN}/32]
ssh_port: {PORT}
table_files_path: {{folder}}/state
"""


@pytest.fixture
def agent(net: Net, host: Sshd) -> Iterator[tuple[str, ...]]:
    """A running agent; the words of a command to it, as they are typed in a session."""
    config = host.folder / "neti.yml"
    config.write_text(CONFIG.format(folder=host.folder))
    # sudo and sshd take the environment away, and another neti may be installed.
    ours = ("env", f"PYTHONPATH={Path(neti.__file__).parents[1]}", PYTHON)
    line = (*ours, "-m", "neti", "{}", "-c", str(config))
    inside = ["ip", "netns", "exec", net.host, *(word.format("agent") for word in line)]
    with (host.folder / "agent.log").open("wb") as log:
        process = subprocess.Popen(inside, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not _registered(host):
            assert time.monotonic() < deadline, "the agent does not come up"
            time.sleep(0.05)
        yield line
    finally:
        process.kill()
        process.wait()


def _registered(host: Sshd) -> bool:
    try:
        return bool(client.call(host.folder / "state", "status")["registered"])
    except AgentUnreachable:
        return False


def test_enforce_typed_where_it_would_shut_out(host: Sshd, agent: tuple[str, ...]) -> None:
    """From a stranger's address it is refused, with the line to write; from the admin's it arms."""
    words = [word.format("enforce") for word in agent]
    enforce = ("sudo", *words, "--wait-for-confirm", "--no-follow", "--trial", "30")
    line = host.line(USER, netns.STRANGER, netns.PRIVATE)
    refused = subprocess.run(
        [*line, *enforce], capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 1
    assert f"add {netns.STRANGER} to ssh_whitelist" in refused.stderr
    assert client.call(host.folder / "state", "status")["stage"] == "shadow"
    said = host.ssh(*enforce, user=USER, source=netns.ADMIN, to=netns.PRIVATE)
    assert said.startswith("trial of 30 s")
    assert client.call(host.folder / "state", "status")["stage"] == "trial"


def test_the_agents_log_says_from_where(host: Sshd, agent: tuple[str, ...]) -> None:
    """The terminal and the SSH client of a command, which only the command itself can find."""
    words = ("sudo", *(word.format("relax") for word in agent))
    host.ssh(*words, user=USER, source=netns.ADMIN, to=netns.PRIVATE, options=("-tt",))
    host.ssh(*words, user="root", source=netns.ADMIN6, to=netns.PRIVATE6)
    lines = (host.folder / "agent.log").read_text().splitlines()
    typed, remote = (line for line in lines if " command " in line)
    assert re.search(rf'terminal=pts/\d+ ssh="{netns.ADMIN} port \d+"$', typed)
    assert re.search(rf'terminal=none ssh="{netns.ADMIN6} port \d+"$', remote)
