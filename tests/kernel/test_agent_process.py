"""The real command in a real namespace, in bad weather: each ends in one clear sentence."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support import netns
from tests.support.netns import Net

from neti.control import client
from neti.control.client import AgentSilent, AgentUnreachable
from neti.control.protocol import RUN, spare_socket

pytestmark = pytest.mark.kernel

Neti = Callable[..., "subprocess.CompletedProcess[str]"]

CONFIG = f"""\
registry: embedded:{{folder}}/registry.db
identity: {{{{id: a, private: {netns.PRIVATE}, public: 198.51.100.5}}}}
site: ec2
sites: {{{{ec2: {{{{private: [10.0.0.0/8]}}}}, vpc: {{{{private: [10.0.0.0/8]}}}}}}}}
ssh_whitelist: [10.0.0.77/32]
table_files_path: {{folder}}/state
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "neti.yml"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


def line(net: Net, config: Path, *words: str) -> list[str]:
    inside = ["ip", "netns", "exec", net.host]
    return [*inside, sys.executable, "-m", "neti", *words, "-c", str(config)]


@pytest.fixture
def neti(net: Net, config: Path) -> Neti:
    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        command = line(net, config, *words)
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture
def agent(net: Net, config: Path, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(line(net, config, "agent"), stderr=log)
    wait(lambda: client.call(tmp_path / "state", "status")["registered"])
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()


def wait(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except AgentUnreachable:
            pass
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)


def ruleset(net: Net) -> str:
    command = ["ip", "netns", "exec", net.host, "nft", "list", "ruleset"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def one_sentence(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    said = done.stderr.strip()
    assert done.returncode != 0
    assert "Traceback" not in said
    waited = "neti: the agent has not answered for"
    # An agent logs what its configuration leaves open before it says why it does not start.
    logged = " WARNING configuration "
    lines = [
        line for line in said.splitlines() if not line.startswith(waited) and logged not in line
    ]
    _sentence, *next_steps = lines
    assert all(step.lstrip().startswith("→ ") for step in next_steps), said
    for word in words:
        assert word in said


def test_plan_goes_by_what_the_agent_goes_by(
    agent: "subprocess.Popen[bytes]", neti: Neti, config: Path, tmp_path: Path
) -> None:
    """A way in that is gone, and ``neti down``: the agent holds no enforcement then, and plan does
    not announce any."""
    state = tmp_path / "state"
    client.call(state, "enforce", seconds=20)
    client.call(state, "confirm")
    assert neti("plan").stdout.startswith("nothing to change")
    config.write_text(config.read_text().replace("[10.0.0.77/32]", "[]"))
    agent.send_signal(signal.SIGHUP)
    wait(lambda: client.call(state, "status")["stage"] == "shadow")
    planned = neti("plan")
    assert planned.stdout.startswith("nothing to change")
    assert "ssh_whitelist is empty" in planned.stderr
    assert neti("down").returncode == 0
    assert "Neti is down" in neti("plan").stdout
    assert neti("plan").stdout.startswith("nothing to change")
    assert "hook input" in neti("plan", "--full").stdout


def test_plan_then_agent_then_nothing_to_plan(
    net: Net, neti: Neti, config: Path, tmp_path: Path
) -> None:
    """plan changes nothing; what it announces is loaded; afterwards there is nothing to change."""
    full = neti("plan", "--full")
    checked = subprocess.run(
        ["ip", "netns", "exec", net.host, "nft", "-c", "-f", "-"],
        input=full.stdout,
        text=True,
        check=False,
        capture_output=True,
    )
    assert checked.returncode == 0, checked.stderr
    assert ruleset(net) == ""
    process = subprocess.Popen(line(net, config, "agent"), stderr=subprocess.DEVNULL)
    try:
        wait(lambda: neti("plan").stdout.startswith("nothing to change"))
        nft = ["ip", "netns", "exec", net.host, "nft"]
        process.send_signal(signal.SIGTERM)
        process.wait()
        subprocess.run([*nft, "add element inet neti peers4 { 1.2.3.4 }"], check=True)
        subprocess.run([*nft, "insert rule inet neti input drop"], check=True)
        planned = neti("plan").stdout
        assert "delete element inet neti peers4 { 1.2.3.4 }" in planned
        assert re.search(r"^- +drop$", planned, re.MULTILINE)
        config.write_text(config.read_text().replace("10.0.0.77/32", "10.0.0.78/32"))
        planned = neti("plan").stdout
        for sign, source in (("-", 77), ("+", 78)):
            rule = rf"^\{sign} +tcp dport 22 ip saddr 10\.0\.0\.{source} accept$"
            assert re.search(rule, planned, re.MULTILINE), planned
    finally:
        process.kill()
        process.wait()


def test_a_killed_agent_leaves_the_rules_and_goes_on_from_them(
    net: Net, neti: Neti, config: Path, agent: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    """kill -9: the rules stay; the next agent registers the same entry and writes nothing."""
    wait(lambda: f" : {netns.PRIVATE}" in ruleset(net))
    before = ruleset(net)
    entry = client.call(tmp_path / "state", "status")["entry"]
    agent.kill()
    agent.wait()
    assert _timeless(ruleset(net)) == _timeless(before)
    again = subprocess.Popen(line(net, config, "agent"), stderr=subprocess.DEVNULL)
    try:
        wait(lambda: client.call(tmp_path / "state", "status")["entry"] == entry)
        assert client.call(tmp_path / "state", "status")["applies"] == 0
        assert _timeless(ruleset(net)) == _timeless(before)
    finally:
        again.terminate()
        again.wait()


def test_what_another_program_does_to_the_table_is_repaired(
    net: Net, agent: "subprocess.Popen[bytes]"
) -> None:
    """Flush, delete, an added rule, a removed element, a removed route: all of it is put right."""
    wait(lambda: f" : {netns.PRIVATE}" in ruleset(net))
    before = ruleset(net)
    nft = ["ip", "netns", "exec", net.host, "nft"]
    for damage in (
        "flush ruleset",
        "delete table inet neti",
        "insert rule inet neti input drop",
        "flush chain inet neti judge",
        "flush map inet neti overlay",
        "add element inet neti peers4 { 1.2.3.4 }",
    ):
        subprocess.run([*nft, damage], check=True)
        wait(lambda: _timeless(ruleset(net)) == _timeless(before))
    routes = ["ip", "-n", net.host, "route"]
    subprocess.run([*routes, "delete", "192.168.0.0/18"], check=True)
    shown = [*routes, "show", "192.168.0.0/18"]
    wait(lambda: "mtu 1400" in subprocess.check_output(shown, text=True))


def _timeless(listing: str) -> list[str]:
    """Its words in any order, as a set's elements are, but for what the kernel's clock ends."""
    lines = [text for text in listing.splitlines() if "expires" not in text]
    return sorted(word.strip(",") for text in lines for word in text.split())


def test_down_and_up_without_and_with_an_agent(
    net: Net, neti: Neti, agent: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    """down removes the table and the route; up brings both back; also with the agent gone."""
    assert neti("down").stdout.startswith("down: nothing of Neti is in this host's kernel")
    assert ruleset(net) == ""
    assert neti("up").stdout.startswith("up: ")
    assert "table inet neti" in ruleset(net)
    agent.kill()
    agent.wait()
    assert neti("down").returncode == 0
    assert ruleset(net) == ""
    routes = subprocess.check_output(["ip", "-n", net.host, "route"], text=True)
    assert "192.168.0.0/18" not in routes


def enforced(net: Net) -> bool:
    words = ["ip", "netns", "exec", net.host, "nft", "list map inet neti enforce"]
    return "drop" in subprocess.check_output(words, text=True).partition("elements")[2]


@pytest.mark.parametrize("gone", [True, False])
def test_relax_works_without_the_agent(
    net: Net,
    neti: Neti,
    config: Path,
    agent: "subprocess.Popen[bytes]",
    tmp_path: Path,
    gone: bool,
) -> None:
    """Gone or hung: the kernel drops nothing at once, and no agent arms it again."""
    state = tmp_path / "state"
    client.call(state, "enforce", seconds=300, wait=True)
    client.call(state, "confirm")
    assert enforced(net)
    agent.send_signal(signal.SIGKILL if gone else signal.SIGSTOP)
    if gone:
        agent.wait()
    done = neti("relax")
    assert done.returncode == 0
    assert done.stdout.startswith("shadow: nothing is kept out")
    assert ("is not running" if gone else "hangs") in done.stderr
    assert not enforced(net)
    with (tmp_path / "again").open("wb") as log:
        again = subprocess.Popen(line(net, config, "agent"), stderr=log) if gone else agent
    try:
        again.send_signal(signal.SIGCONT)
        wait(lambda: client.call(state, "status")["registered"])
        assert client.call(state, "status")["stage"] == "shadow"
        assert not enforced(net)
        assert not (state / "relaxed").exists()
    finally:
        again.kill()
        again.wait()


def test_down_of_an_agent_that_hangs_stays_when_it_wakes(
    net: Net, neti: Neti, agent: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    agent.send_signal(signal.SIGSTOP)
    assert neti("down").returncode == 0
    assert ruleset(net) == ""
    agent.send_signal(signal.SIGCONT)
    wait(lambda: client.call(tmp_path / "state", "status")["down"])
    assert ruleset(net) == ""
    assert "resynced" not in (tmp_path / "log").read_text().partition("command=down")[2]


def test_a_second_agent_on_the_host_is_refused(
    neti: Neti, agent: "subprocess.Popen[bytes]"
) -> None:
    """One agent a host."""
    one_sentence(neti("agent"), "another agent is running")
    assert agent.poll() is None


def test_an_agent_on_a_read_only_disk_answers(
    net: Net, neti: Neti, config: Path, tmp_path: Path
) -> None:
    """Its operators must be able to ask what is the matter: the socket is elsewhere then."""
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "--bind", str(state), str(state)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(state)], check=True)
        process = subprocess.Popen(line(net, config, "agent"), stderr=subprocess.DEVNULL)
        try:
            wait(lambda: client.call(state, "status")["registered"])
            told = neti("status").stdout
            assert f"commands reach the agent by {RUN}/" in told
            assert "not on disk" in told
        finally:
            process.terminate()
            process.wait()
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)
    assert not spare_socket(state).exists()


def test_a_route_inside_the_overlay_is_refused(net: Net, neti: Neti) -> None:
    """Docker's later default networks lie inside the default overlay: named, and nothing loaded."""
    words = ["route", "add", "192.168.16.0/20", "dev", "c0"]
    subprocess.run(["ip", "-n", net.host, *words], check=True)
    one_sentence(neti("agent"), "192.168.16.0/20 dev c0", "overlay_subnet")
    assert ruleset(net) == ""


def test_what_a_running_agent_only_notes_stops_no_restart(
    net: Net, config: Path, agent: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    """A route inside the overlay, a file that is not valid: a member's next agent starts and says
    so. A route in a table that no rule leads to is nothing at all."""
    state = tmp_path / "state"
    agent.terminate()
    agent.wait()
    routes = ["ip", "-n", net.host, "route", "add"]
    subprocess.run([*routes, "192.168.9.0/24", "dev", "c0", "table", "500"], check=True)
    with (tmp_path / "again").open("wb") as log:
        again = subprocess.Popen(line(net, config, "agent"), stderr=log)
    wait(lambda: client.call(state, "status")["registered"])
    assert not _codes(state)
    again.terminate()
    again.wait()
    subprocess.run([*routes, "192.168.16.0/20", "dev", "c0"], check=True)
    config.write_text("reject_all: perhaps\n" + config.read_text())
    with (tmp_path / "again").open("ab") as log:
        again = subprocess.Popen(line(net, config, "agent"), stderr=log)
    try:
        wait(lambda: client.call(state, "status")["registered"])
        assert _codes(state) == {"overlay", "reload"}
    finally:
        again.terminate()
        again.wait()


def _codes(state: Path) -> set[str]:
    return {one["code"] for one in client.call(state, "status")["problems"]}


def test_a_zookeeper_host_is_refused(net: Net, neti: Neti, config: Path) -> None:
    """The ensemble and its proxies must not run Neti."""
    text = config.read_text().replace("registry: embedded", "# registry")
    config.write_text(text + f'zk_hosts: {{ec2: ["{netns.PRIVATE}:2181"]}}\n')
    one_sentence(neti("agent"), netns.PRIVATE, "must not run Neti")
    assert ruleset(net) == ""


def test_zookeeper_that_is_not_there_is_waited_for(
    net: Net, neti: Neti, config: Path, tmp_path: Path
) -> None:
    """The agent says so and keeps trying; a list of the fleet is the agent's, and says so."""
    text = config.read_text().replace("registry: embedded", "# registry")
    config.write_text(text + f'zk_hosts: {{ec2: ["{netns.PEER}:2181"]}}\n')
    process = subprocess.Popen(line(net, config, "agent"), stderr=subprocess.DEVNULL)
    try:
        wait(lambda: bool(client.call(tmp_path / "state", "status")["problems"]))
        status = neti("status")
        assert status.returncode == 1
        assert "NOT in step" in status.stdout
        fleet = neti("fleet")
        assert fleet.returncode == 3
        assert "Traceback" not in fleet.stderr
        *_, why, whose = fleet.stderr.strip().splitlines()  # and before them that it waits
        assert "ZooKeeper" in why
        assert netns.PEER in why
        assert "this is what this host's agent knew last" in whose
        # A gate does not pass on what is not known.
        assert neti("fleet", "--require", "enforced").returncode == 1
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait()


def test_without_rights(net: Net, config: Path, tmp_path: Path) -> None:
    """No root and no CAP_NET_ADMIN: one sentence, nothing registered."""
    command = line(net, config, "agent")
    drop = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
    done = subprocess.run(
        [*command[:4], *drop, *command[4:]],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=os.environ,
    )
    one_sentence(done, "CAP_NET_ADMIN")
    assert not (tmp_path / "registry.db").exists()


def test_no_command_needs_a_traceback_without_an_agent(neti: Neti) -> None:
    """Commands that ask the agent say that there is none, and what to do."""
    for words in (["status"], ["verify"], ["leave"]):
        one_sentence(neti(*words), "no agent is running")


def test_who_leaves_twice_is_told_so(neti: Neti, agent: "subprocess.Popen[bytes]") -> None:
    assert neti("leave").stdout.startswith("left: this host is out of the fleet")
    agent.wait(20)
    one_sentence(neti("leave"), "this host has left already")


def test_leaving_beside_an_agent_that_hangs_is_not_called_done(
    neti: Neti, agent: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    """It has a mind of its own when it wakes."""
    agent.send_signal(signal.SIGSTOP)
    done = neti("leave")
    assert done.stdout == ""
    one_sentence(done, "its agent hangs and will register it again")
    agent.send_signal(signal.SIGCONT)
    wait(lambda: client.call(tmp_path / "state", "status")["registered"])
    assert "command_abandoned command=leave" in (tmp_path / "log").read_text()


def test_what_failed_while_the_agent_hung_is_not_done_when_it_wakes(
    net: Net, agent: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    """An enforce that failed must not arm a host that nobody watches any more."""
    agent.send_signal(signal.SIGSTOP)
    for command in ("enforce", "confirm", "release"):
        with pytest.raises(AgentSilent, match="a running trial ends by itself"):
            client.call(tmp_path / "state", command, within=0.5)
    agent.send_signal(signal.SIGCONT)
    wait(lambda: (tmp_path / "log").read_text().count("command_abandoned") == 3)
    assert client.call(tmp_path / "state", "status")["stage"] == "shadow"
    assert not enforced(net)
