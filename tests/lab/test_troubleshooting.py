"""docs/troubleshooting.md, played: what each path is about is broken in a lab, and what the page
shows is what its commands say there. Words of its tables are looked for in what is said, too."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from tests.support.zookeeper import need_zookeeper

from neti_lab import agents, lifecycle, namespaces
from neti_lab.state import LabState
from neti_lab.topology import LabPlan, plan_lab

pytestmark = pytest.mark.lab

PAGE: Final = (Path(__file__).parents[2] / "docs/troubleshooting.md").read_text()
SHORTENED: Final = "[…]"
SECONDS: Final = 60.0  # packets are looked at every 15 s, and perhaps twice
FILTER: Final = (
    'nft \'table inet site { chain in { type filter hook input priority 0; policy drop; iif "lo" '
    "accept; ct state established,related accept; tcp dport 22 accept; }; }'"
)
# The road carries 1300 bytes, and whoever finds that out on the way says nothing.
NARROW: Final = (
    "ip link set ec2 mtu 1300; ip link set vpc mtu 1300; nft 'table ip quiet { chain out "
    "{ type filter hook output priority 0; icmp type destination-unreachable drop; }; }'"
)
WIDE: Final = "ip link set ec2 mtu 1500; ip link set vpc mtu 1500; nft delete table ip quiet"


@dataclass(frozen=True)
class Shown:
    """A command of the page, and what the page shows below it."""

    command: str
    lines: tuple[str, ...]

    def pattern(self) -> str:
        """Numbers are each run's own, and so are the columns that they widen."""
        return "".join(
            r"(?:.*\n)*?" if line == SHORTENED else _pattern(line) + r" *\n" for line in self.lines
        )


def _pattern(line: str) -> str:
    return "".join(map(_loosely, re.split(r"(\[…\]|(?<![\w-])\d[\d.,]*| +)", line)))


def _loosely(part: str) -> str:
    if part == SHORTENED:
        return ".*"
    if part[:1] == " ":
        return " +"
    return r"\d[\d.,]*" if part[:1].isdigit() else re.escape(part)


def _section(title: str) -> str:
    return PAGE[PAGE.index(f"\n## {title}\n") :].split("\n## ", 2)[1]


def shown(title: str, question: int) -> list[Shown]:
    """What is typed at this question of this path."""
    text = _section(title)
    text = text[text.index(f"**{question}. ") :].partition(f"**{question + 1}. ")[0]
    found = []
    for block in re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *lines = part.splitlines()
            found.append(Shown(command, tuple(lines)))
    assert found
    return found


class Yard:
    """A lab in which things are broken."""

    def __init__(self, state: LabState, plan: LabPlan) -> None:
        self.state, self.plan = state, plan

    def run(self, node: str, command: str) -> str:
        """As a shell there would; both streams, and the lab called as on the page."""
        command = command.replace("-c operator.yml", f"-c {self.state.operator_config}")
        # "neti" is this one, also where its folder is not on the PATH.
        env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        if self.state.config(node).exists():
            env["NETI_CONFIG"] = str(self.state.config(node))
        line = namespaces.command_inside(self.plan.namespace(node), ["sh", "-c", command])
        both: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        said: str = subprocess.run(line, **both, text=True, env=env, check=False).stdout
        return said.replace(f"/neti-lab/{self.state.name}/", "/neti-lab/lab/")

    def until(self, node: str, command: str, holds: Callable[[str], Any]) -> str:
        """What the command says once that holds."""
        deadline = time.monotonic() + SECONDS
        while not holds(said := self.run(node, command)):
            assert time.monotonic() < deadline, f"{command}, on {node}:\n{said}"
            time.sleep(1.0)  # each look is a program that starts
        return said

    def play(self, node: str, title: str, question: int) -> str:
        """What the page has typed at this question says there what the page shows."""
        said = ""
        for one in shown(title, question):
            said = self.run(node, one.command)
            assert re.search(one.pattern(), said), f"{one.command}, on {node}:\n{said}\n{one.lines}"
        return said

    def play_until(self, node: str, title: str, question: int) -> str:
        """The same, where something has to be noticed first."""
        said = ""
        for one in shown(title, question):
            said = self.until(node, one.command, re.compile(one.pattern()).search)
        return said

    def says(self, node: str, command: str, title: str, words: str) -> None:
        """It says what a row of that path begins with."""
        assert words in _section(title), words
        self.until(node, command, lambda said: words in said)

    def knock(self, node: str, address: str, port: int) -> bool:
        """By a connection of two seconds at most: two SYNs, where nobody answers."""

        def try_it() -> bool:
            with contextlib.suppress(OSError), socket.create_connection((address, port), 2.0):
                return True
            return False

        return namespaces.call_inside(self.plan.namespace(node), try_it)

    def start(self, host: str, until: str = " registered ") -> None:
        """Its agent, until its log says that."""
        with self.logs(host, until):
            agents.start(self.plan, [self.plan.host(host)], state=self.state)

    @contextlib.contextmanager
    def logs(self, host: str, words: str) -> Iterator[None]:
        """What happens here has the host's agent say these words. Costs less than to ask it."""
        log = self.state.log(host)
        began = log.stat().st_size
        yield
        deadline = time.monotonic() + SECONDS
        while words.encode() not in log.read_bytes()[began:]:
            assert time.monotonic() < deadline, f"{host} does not log: {words}"
            time.sleep(0.1)

    def stop(self, host: str) -> None:
        agents.send(self.plan.host(host), signal.SIGTERM, state=self.state)
        deadline = time.monotonic() + SECONDS
        while agents.agent_of(self.plan.host(host), state=self.state) is not None:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    @contextlib.contextmanager
    def edited(self, host: str, change: Callable[[str], str]) -> Iterator[None]:
        """Its neti.yml is another one for a while; nobody is told."""
        config = self.state.config(host)
        before = config.read_text()
        config.write_text(change(before))
        assert config.read_text() != before
        yield
        config.write_text(before)


def test_each_path_shows_what_is_broken_and_how_to_mend_it(lab: LabState) -> None:
    """One lab for all of them. The last but one leaves it as it was; the last ends the fleet."""
    need_zookeeper()
    plan = plan_lab(name=lab.name, hosts=2, registry="closed")
    lifecycle.bring_up(lab, plan)
    yard = Yard(lab, plan)
    for played in (_does_not_start, _slow, _security, _does_not_reach, _locked_out, _held):
        played(yard)


def _does_not_reach(yard: Yard) -> None:
    title = "A does not reach B"
    yard.play("ec2-1", title, 1)
    yard.play("ec2-1", title, 2)

    yard.run("vpc-1", FILTER)
    yard.says("ec2-1", "neti verify vpc-1", title, "no answer in time")
    yard.says("vpc-1", "neti status", title, "other tables judge input too")
    # Those that arrived before the filter count too, so a few tries may not be enough.
    with _asking(yard, "ec2-1", "vpc-1"), yard.logs("vpc-1", "members_kept_out"):
        pass
    said = yard.play_until("vpc-1", title, 3)
    line = re.search(r"(nft insert rule .* accept)\)", said)
    assert line is not None
    yard.run("vpc-1", line[1])
    assert "1 of 1 members reached" in yard.run("ec2-1", "neti verify vpc-1")
    yard.run("vpc-1", "nft delete table inet site")

    with yard.edited("ec2-1", lambda text: text.replace("203.0.113.0/24", "203.0.113.128/28")):
        yard.run("ec2-1", "neti reload")
        yard.says("ec2-1", "neti lookup vpc-1", title, "state not believed")
        yard.says("ec2-1", "neti status", title, "is outside site vpc's public ranges")
        yard.says("ec2-1", "neti verify vpc-1", title, "is not a member here")
    yard.run("ec2-1", "neti reload")
    yard.until("ec2-1", "neti verify vpc-1", lambda said: "1 of 1 members reached" in said)

    yard.run("vpc-2", "neti leave")
    yard.says("ec2-1", "neti lookup vpc-2", title, "state left")
    yard.says("ec2-1", "neti lookup nobody", title, "no host has the name, id or address")
    yard.start("vpc-2")


@contextlib.contextmanager
def _asking(yard: Yard, caller: str, host: str) -> Iterator[None]:
    """By new connections, all the while."""
    web = f"http://{yard.run(host, 'neti overlay-ip').strip()}:8080/"
    line = ["sh", "-c", f"while :; do curl -s -m 0.3 {web}; done"]
    inside = namespaces.command_inside(yard.plan.namespace(caller), line)
    with subprocess.Popen(inside, stdout=subprocess.DEVNULL) as asking:
        try:
            yield
        finally:
            asking.terminate()


def _locked_out(yard: Yard) -> None:
    title = "I am locked out"
    (address,) = [str(host.public) for host in yard.plan.hosts if host.name == "vpc-2"]
    line = ["/usr/bin/python3", "-m", "http.server", "22"]
    inside = namespaces.command_inside(yard.plan.namespace("vpc-2"), line)
    with subprocess.Popen(inside, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sshd:
        yard.until("vpc-2", "ss -Hltn sport = :22", lambda said: "LISTEN" in said)
        yard.run("vpc-2", "neti enforce --anyway --no-follow --wait-for-confirm")
        yard.until("vpc-2", "neti status", lambda said: re.search("stage +trial", said))
        yard.run("vpc-2", "neti confirm")
        assert not yard.knock("stranger", address, 22)
        yard.play_until("vpc-2", title, 1)
        yard.play("vpc-2", title, 2)
        yard.play_until("vpc-2", title, 3)
        assert yard.knock("stranger", address, 22)

        allowed = "192.0.2.128/26\n- 192.0.2.64/27"
        with yard.edited("vpc-2", lambda text: text.replace("192.0.2.128/26", allowed)):
            yard.says("vpc-2", "neti reload", title, "in force now: ssh_whitelist")
            yard.says("vpc-2", "neti preview", title, "Everybody who came there is let in by now")
            yard.run("vpc-2", "neti enforce --anyway --no-follow --wait-for-confirm")
            yard.run("vpc-2", "neti confirm")
            yard.until("vpc-2", "neti status", lambda said: re.search("enforced", said))
            assert yard.knock("stranger", address, 22)
        yard.run("vpc-2", "neti down")
        yard.says("vpc-2", "neti status", title, "DOWN")
        yard.run("vpc-2", "neti up")
        yard.run("vpc-2", "neti relax && neti reload")
        sshd.terminate()


def _does_not_start(yard: Yard) -> None:
    title = "The agent does not start"
    yard.stop("vpc-2")
    yard.play("vpc-2", title, 1)
    with yard.edited("vpc-2", lambda text: text.replace("ssh_whitelist", "ssh_whitelst")):
        line = yard.play("vpc-2", title, 2)
        folder = yard.state.host_folder("vpc-2") / "state"
        aside = folder.rename(folder.with_name("kept"))
        assert line.strip() in yard.run("vpc-2", "neti agent")
        assert not folder.exists()  # it ended before it made one
        aside.rename(folder)
        yard.start("vpc-2", until="registry_fresh")
        assert "begins_nevertheless" in yard.state.log("vpc-2").read_text()
        assert "begins_nevertheless" in _section(title)
    yard.run("vpc-2", "neti reload")
    yard.says("vpc-2", "neti agent", title, "another agent is running on this host: it holds")


def _slow(yard: Yard) -> None:
    title = "It is slow"
    yard.play("ec2-1", title, 1)
    yard.play("ec2-1", title, 3)
    yard.run("internet", NARROW)
    yard.play("ec2-1", title, 2)
    with yard.edited("ec2-1", _with_a_narrow_road):
        yard.run("ec2-1", "neti reload")
        assert "1 of 1 members reached" in yard.run("ec2-1", "neti verify vpc-1")
    yard.run("internet", WIDE)
    yard.run("ec2-1", "neti reload")


def _with_a_narrow_road(text: str) -> str:
    assert "mtu: 1300" in _section("It is slow")
    document = yaml.safe_load(text)
    document["sites"]["vpc"]["mtu"] = 1300
    return yaml.safe_dump(document)


def _security(yard: Yard) -> None:
    title = "Security says no"
    yard.run("vpc-2", "neti leave")
    yard.until("ec2-1", "neti lookup vpc-2", lambda said: "state left" in said)
    yard.run("ec2-1", "neti lease release vpc-2 --yes -c operator.yml")
    yard.run("ec2-1", "neti registry remove /neti/hosts/vpc-2 --yes -c operator.yml")
    yard.start("vpc-2", until="not_registered")
    yard.play_until("vpc-2", title, 1)
    with yard.logs("vpc-2", " registered "):
        yard.play("ec2-1", title, 2)

    key, other = (yard.state.ca / f"host-{name}.key" for name in ("vpc-2", "vpc-1"))
    before = key.read_bytes()
    key.write_bytes(other.read_bytes())
    yard.run("vpc-2", "neti reload")
    yard.play_until("vpc-2", title, 3)
    key.write_bytes(before)
    yard.run("vpc-2", "neti reload")
    yard.until("vpc-2", "neti status", lambda said: "is not the key of" not in said)

    yard.play("vpc-2", title, 4)


def _held(yard: Yard) -> None:
    title = "Everything is held"
    for host in ("ec2-2", "vpc-1", "vpc-2"):
        yard.run(host, "neti leave")
    yard.play_until("ec2-1", title, 1)
    # Until its farewell's session has ended, the registry says that it left.
    yard.says("ec2-1", "neti lookup vpc-1", "A does not reach B", "state held")
    yard.play("ec2-1", title, 3)
    yard.until("ec2-1", "neti status", lambda said: re.search(r"members +1 \(", said))
