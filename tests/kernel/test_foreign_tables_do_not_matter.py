"""Whatever other tables hold: a real agent goes on, and every command says what it has to say."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from subprocess import DEVNULL

import pytest
from drills.fleet import Fleet, generated
from tests.kernel.test_agent_process import CONFIG, Neti, line, wait
from tests.support.agent_process import cpu_seconds
from tests.support.foreign_set import make_large_set, make_unreadable_set
from tests.support.netns import Net

from neti.control import client
from neti.dataplane.nftables import NftablesDataplane
from neti.registry.embedded.registry import EmbeddedRegistry
from neti.ruleset.objects import FOREIGN, KernelState

pytestmark = pytest.mark.kernel


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "neti.yml"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


@pytest.fixture
def neti(net: Net, config: Path) -> Neti:
    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        command = line(net, config, *words)
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return run


Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(net: Net, config: Path, tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def run() -> "subprocess.Popen[bytes]":
        with (tmp_path / "log").open("ab") as log:
            started.append(subprocess.Popen(line(net, config, "agent"), stderr=log))
        wait(lambda: bool(client.call(tmp_path / "state", "status")["registered"]), 40)
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


def held(net: Net) -> KernelState:
    with closing(net.inside(net.host, NftablesDataplane)) as dataplane:
        return dataplane.read()


def drops(net: Net) -> set[str]:
    return {family for family, left in held(net).enforce.items() if left != FOREIGN}


def test_a_set_that_the_library_cannot_read(
    net: Net, neti: Neti, start: Start, tmp_path: Path
) -> None:
    """From before the agent's start: members join and leave, stages change, commands work. Of
    anything that lists, nft itself dies of it."""
    make_unreadable_set(net.host)
    nft = subprocess.run(["ip", "netns", "exec", net.host, "nft", "list", "tables"], check=False)
    if nft.returncode >= 0:
        pytest.skip("this nft can read such a set")
    assert "create table inet neti" in neti("plan").stdout
    agent = start()
    state = tmp_path / "state"
    fleet = Fleet(EmbeddedRegistry(tmp_path / "registry.db", session_seconds=60))
    member = fleet.join(generated(1))
    wait(lambda: str(member.private) in held(net).elements["peers4"])
    assert neti("check").returncode in (0, 1)
    assert neti("plan").stdout.startswith("nothing to change")
    assert "ports" in neti("preview", "--json").stdout
    client.call(state, "enforce", seconds=20)
    assert drops(net) == {"ipv4", "ipv6"}
    client.call(state, "confirm")
    assert held(net).armed_for_good
    fleet.leave(member.id)
    wait(lambda: str(member.private) not in held(net).elements["peers4"])
    assert str(member.private) in held(net).timed["revoked4"]
    client.call(state, "relax")
    assert drops(net) == set()
    assert agent.poll() is None
    assert neti("down").returncode == 0
    assert held(net).structure is None
    agent.kill()
    agent.wait()
    assert neti("up").returncode == 0
    restored = neti("restore")
    assert (restored.returncode, held(net).structure is not None) == (0, True), restored.stderr
    assert neti("preview", "--json").returncode == 0
    assert neti("down").returncode == 0
    assert held(net).structure is None


def test_a_library_that_dies_costs_the_rules_only(
    net: Net, config: Path, start: Start, tmp_path: Path
) -> None:
    """Where even the compiler is missing: members and stage follow under the rules that are there,
    and the sentence says what is the case."""
    first = start()
    wait(lambda: held(net).structure is not None)
    first.terminate()
    first.wait()
    # Other rules are wanted now, and whatever is run as the compiler dies.
    config.write_text(config.read_text() + "open_ports: [8080]\n")
    child = tmp_path / "dies.py"
    child.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    before = held(net).structure
    program = (
        "import sys; from pathlib import Path; from neti.dataplane import compiler; "
        f"compiler._CHILD = Path({str(child)!r}); from neti.cli import main; "
        f"sys.argv = ['neti', 'agent', '-c', {str(config)!r}]; main()"
    )
    inside = ["ip", "netns", "exec", net.host, sys.executable, "-c", program]
    with subprocess.Popen(inside, stderr=subprocess.DEVNULL) as agent:
        try:
            state = tmp_path / "state"
            wait(lambda: bool(client.call(state, "status")["registered"]), 40)
            fleet = Fleet(EmbeddedRegistry(tmp_path / "registry.db", session_seconds=60))
            member = fleet.join(generated(1))
            wait(lambda: str(member.private) in held(net).elements["peers4"])
            problems = client.call(state, "status")["problems"]
            said = " ".join(one["sentence"] for one in problems if one["code"] == "kernel")
            assert "crashed (signal 11)" in said
            fleet.leave(member.id)
            wait(lambda: str(member.private) not in held(net).elements["peers4"])
            assert held(net).structure == before
            assert agent.poll() is None
        finally:
            agent.kill()


def test_half_a_million_elements_of_somebody_elses(net: Net, start: Start, tmp_path: Path) -> None:
    """A geo list stalls nothing and costs the agent no memory: nobody reads it. All its looks take
    less of a processor than one reading of the list."""
    nft = ["ip", "netns", "exec", net.host, "nft"]
    make_large_set(net.host, 500_000)
    agent = start()
    state = tmp_path / "state"
    wait(lambda: held(net).structure is not None)
    memory, used = resident(agent), cpu_seconds(agent.pid)
    for number in range(6):
        subprocess.run([*nft, f"add table inet busy{number}"], check=True)
        for _ in range(5):
            client.call(state, "status")
            time.sleep(0.1)
    looked = cpu_seconds(agent.pid) - used
    assert resident(agent) < memory + 20
    before = os.times()
    subprocess.run([*nft, "list", "table", "inet", "geo"], check=True, stdout=DEVNULL)
    after = os.times()
    read = after.children_user + after.children_system
    read -= before.children_user + before.children_system
    assert looked < read, read


def resident(agent: "subprocess.Popen[bytes]") -> float:
    """MiB. ``ip netns exec`` becomes the agent, so it has its number."""
    for line_ in Path(f"/proc/{agent.pid}/status").read_text().splitlines():
        if line_.startswith("VmRSS:"):
            return int(line_.split()[1]) / 1024
    raise AssertionError("the agent is gone")
