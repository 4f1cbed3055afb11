"""``neti check`` against a real agent and a real kernel, sabotaged one way after another."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support import netns
from tests.support.netns import Net, Server, reaches

from neti.control import client
from neti.control.client import AgentUnreachable
from neti.monitoring.kernel_look import look
from neti.monitoring.situation import FAMILIES, KernelLook

pytestmark = pytest.mark.kernel

PORT = 7000
CONFIG = f"""\
registry: embedded:{{folder}}/registry.db
identity: {{{{id: a, private: {netns.PRIVATE}, public: 198.51.100.5}}}}
site: ec2
sites: {{{{ec2: {{{{private: [10.0.0.0/8]}}}}, vpc: {{{{private: [10.0.0.0/8]}}}}}}}}
ssh_whitelist: [10.0.0.77/32]
table_files_path: {{folder}}/state
"""


class Host:
    """The host under test: its configuration, its agent, its commands."""

    def __init__(self, net: Net, folder: Path) -> None:
        self.net, self.folder = net, folder
        self.config = folder / "neti.yml"
        self.config.write_text(CONFIG.format(folder=folder))
        self.agent: subprocess.Popen[bytes] | None = None

    def line(self, *words: str) -> list[str]:
        inside = ["ip", "netns", "exec", self.net.host]
        return [*inside, sys.executable, "-m", "neti", *words, "-c", str(self.config)]

    def start(self, true: Callable[[], bool]) -> None:
        with (self.folder / "log").open("ab") as log:
            self.agent = subprocess.Popen(self.line("agent"), stderr=log)
        self.wait(true)

    def wait(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120  # only what hangs takes so long, however busy the machine
        while not self._is(true):
            log = (self.folder / "log").read_text()
            assert time.monotonic() < deadline, f"{self.problems()}\n{log}"
            time.sleep(0.05)

    def enforced(self) -> None:
        """With an agent, for good."""
        self.config.write_text(self.config.read_text() + "reject_all: true\ntrial_seconds: 6\n")
        self.start(
            lambda: self.status("stage") == "enforced" and self.look().drops == set(FAMILIES)
        )

    @staticmethod
    def _is(true: Callable[[], bool]) -> bool:
        try:
            return true()
        except AgentUnreachable:
            return False

    def status(self, key: str) -> object:
        return client.call(self.folder / "state", "status")[key]

    def problems(self) -> list[str]:
        """Their codes."""
        told = client.call(self.folder / "state", "status")["problems"]
        return [one["code"] for one in told]

    def well(self) -> None:
        code, line = self.check()
        assert code == 0, line

    def signal(self, number: signal.Signals) -> None:
        assert self.agent is not None
        self.agent.send_signal(number)

    def end(self) -> None:
        if self.agent is not None:
            self.agent.kill()
            self.agent.wait()

    def check(self, *options: str, prefix: tuple[str, ...] = ()) -> tuple[int, str]:
        line = self.line("check", *options)
        done = subprocess.run(
            [*line[:4], *prefix, *line[4:]], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stderr == ""
        assert done.stdout.count("\n") == 1
        return done.returncode, done.stdout.strip()

    def nft(self, commands: str) -> None:
        inside = ["ip", "netns", "exec", self.net.host, "nft", "-f", "-"]
        subprocess.run(inside, input=commands, text=True, check=True)

    def look(self) -> KernelLook:
        return self.net.inside(self.net.host, lambda: look(self.folder / "state"))


@pytest.fixture
def host(net: Net, tmp_path: Path) -> Iterator[Host]:
    made = Host(net, tmp_path)
    yield made
    made.end()


def test_through_a_hosts_life(host: Host) -> None:
    """No agent, well, down, up again, hanging, killed, a broken file: each with its own line."""
    code, line = host.check()
    assert (code, "no agent is running" in line) == (2, True)
    host.start(lambda: host.status("registered") is True)
    code, line = host.check()
    assert line.startswith("NETI OK - shadow, ")
    assert code == 0
    subprocess.run(host.line("down"), check=True, capture_output=True)
    code, line = host.check()
    assert (code, "switched off" in line) == (1, True)
    subprocess.run(host.line("up"), check=True, capture_output=True)
    assert host.check()[0] == 0
    host.signal(signal.SIGSTOP)
    code, line = host.check()
    assert (code, "the agent hangs" in line) == (2, True)
    host.signal(signal.SIGCONT)
    host.end()
    code, line = host.check()
    assert (code, "no agent is running" in line) == (2, True)
    host.config.write_text("reject_al: true\n")
    code, line = host.check()
    assert code == 2
    assert "the configuration is invalid" in line
    assert "reject_all" in line


def test_an_invalid_file_hides_nothing(host: Host) -> None:
    """It is one finding; the rest is looked at by the configuration that was good last."""
    host.enforced()
    good = host.config.read_text()
    host.config.write_text(good + "ssh_prot: 22\n")
    code, line = host.check()
    assert (code, line.count("; ")) == (2, 0)
    assert "the configuration is invalid" in line
    assert "stage=2" in line
    host.signal(signal.SIGSTOP)  # nobody repairs
    host.nft("flush map inet neti enforce")
    code, line = host.check()
    assert code == 2
    assert "the configuration is invalid" in line
    assert "the agent hangs" in line
    host.end()
    host.nft("delete table inet neti")
    code, line = host.check()
    assert code == 2
    for finding in ("the configuration is invalid", "no agent is running", "is not in the kernel"):
        assert finding in line


def test_without_rights_it_is_unknown(host: Host) -> None:
    """What could not be looked at is said; nothing is called well or unwell that was not seen."""
    host.start(lambda: host.status("registered") is True)
    prefix = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")
    code, line = host.check(prefix=prefix)
    assert code == 3
    assert "CAP_NET_ADMIN" in line


def test_a_wrong_option_is_unknown(host: Host) -> None:
    """2 would be taken for critical."""
    done = subprocess.run(host.line("check", "--nonsense"), capture_output=True, check=False)
    assert done.returncode == 3


def test_a_repair_on_the_way_is_no_alarm(host: Host) -> None:
    """Somebody flushed everything just now; the agent is about to put it right."""
    host.enforced()
    host.nft("flush ruleset")
    code, line = host.check()
    assert code == 0, line
    assert "NETI OK" in line


def test_a_table_that_keeps_members_out_is_a_warning(host: Host) -> None:
    """Though Neti lets them in. Over when members are let through there."""
    host.start(lambda: host.status("registered") is True)
    host.well()
    drop = "{ type filter hook input priority 0; policy drop; }"
    host.nft(f"add table ip fw; add chain ip fw in {drop}")
    # Until it has read that table: it may have to say first that tables cannot be read just now.
    host.wait(lambda: host.problems() == ["tables_drop"])
    code, line = host.check()
    assert code == 1, line
    assert "table ip fw (chain in at input) drops everything" in line
    host.nft("insert rule ip fw in ip saddr 10.0.0.0/8 accept")
    host.wait(lambda: not host.problems())
    host.well()


SABOTAGE = {
    "flush ruleset": set[str](),
    "delete table inet neti": set[str](),
    "insert rule inet neti input accept": set[str](),
    "flush chain inet neti input": set[str](),
    "flush map inet neti enforce": set[str](),
    "delete element inet neti enforce { ipv6 }": {"ipv4"},
    "delete element inet neti enforce { ipv4 }": {"ipv6"},
    "add table inet neti { flags dormant; }": set(FAMILIES),
}


def test_the_kernel_is_looked_at_itself(net: Net, host: Host) -> None:
    """With the agent gone, for each sabotage: what is seen is what packets meet."""
    Server(net, net.host, PORT)
    host.enforced()
    assert host.look() == KernelLook(table=True, as_written=True, drops=frozenset(FAMILIES))
    host.end()
    rules = subprocess.run(
        ["ip", "netns", "exec", net.host, "nft", "list", "table", "inet", "neti"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for damage, families in SABOTAGE.items():
        host.nft(damage)
        seen = host.look()
        assert seen.drops == families if seen.table else families == set(), damage
        dropping = families if not seen.dormant else set()
        for family, to, source in (
            ("ipv4", netns.PRIVATE, netns.STRANGER),
            ("ipv6", netns.PRIVATE6, netns.STRANGER6),
        ):
            assert reaches(net, net.outside, to, PORT, source) is (family not in dropping), damage
        assert seen.as_written is not True or "element" in damage or "flush map" in damage, damage
        host.nft(f"add table inet neti\ndelete table inet neti\n{rules}")
