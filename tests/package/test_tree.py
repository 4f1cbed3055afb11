"""The bundle's tree without a machine around it: an agent in a namespace, with nothing but the
kernel. So it runs also where no systemd can be had, as on an emulated arm64:

    ARCH=arm64 NETI_PATIENCE=10 scripts/kernel-test trixie -m package tests/package/test_tree.py
"""

import gzip
import json
import platform
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from tests.package.conftest import ROOT
from tests.support.machine import CONFIG, wait
from tests.support.netns import PATIENCE, Net, network, require_root

pytestmark = pytest.mark.package

ARCH: Final = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
# The host's /opt is left alone: what is mounted here nobody else sees.
IN_PLACE: Final = """
mount -t tmpfs tmpfs /opt
mkdir /opt/neti
mount --bind "$1" /opt/neti
shift
exec /opt/neti/bin/neti "$@"
"""


@dataclass(frozen=True)
class Tree:
    net: Net
    folder: Path
    config: Path

    def words(self, *words: str) -> list[str]:
        inside = ["ip", "netns", "exec", self.net.host, "unshare", "--mount"]
        return [*inside, "sh", "-euc", IN_PLACE, "sh", str(self.folder), *words]

    def neti(self, *words: str) -> subprocess.CompletedProcess[str]:
        asked = self.words(words[0], "--config", str(self.config), *words[1:])
        return subprocess.run(asked, capture_output=True, text=True, check=False)

    def rules(self) -> str:
        words = ["ip", "netns", "exec", self.net.host, "nft", "list", "ruleset"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> Iterator[Tree]:
    require_root()
    built = list((ROOT / "dist").glob(f"neti-*-linux-{ARCH}.tar.gz"))
    if not built:
        pytest.skip(f"no tarball for {ARCH} is built: make bundle ARCHES={ARCH}")
    newest = max(built, key=lambda path: path.stat().st_mtime)
    words = ["tar", "x", "-C", str(tmp_path), "--strip-components=1"]
    # An emulated machine may have no gzip.
    subprocess.run(words, input=gzip.decompress(newest.read_bytes()), check=True)
    config = tmp_path / "neti.yml"
    config.write_text(
        CONFIG.replace("/var/lib/neti", str(tmp_path))
        + f"table_files_path: {tmp_path}/state\nsession_seconds: 10\n"
    )
    (tmp_path / "state").mkdir()
    with network() as net:
        yield Tree(net, tmp_path / "opt/neti", config)


@dataclass
class Agent:
    tree: Tree
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = self.tree.words("agent", "--config", str(self.tree.config))
        self.process = subprocess.Popen(words)
        wait(self._in_step, "in step", 3 * PATIENCE)

    def _in_step(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None
        return "in step" in self.tree.neti("status").stdout

    def end(self, how: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(PATIENCE)


@pytest.fixture(name="agent")
def _agent(tree: Tree) -> Iterator[Agent]:
    agent = Agent(tree)
    yield agent
    agent.end(signal.SIGKILL)


def test_an_agent_on_this_kernel(tree: Tree, agent: Agent) -> None:
    """From nothing to enforced, killed, started again, and taken out of the kernel."""
    version = subprocess.run(
        tree.words("--version"), capture_output=True, text=True, check=True
    ).stdout
    assert version.startswith("neti ")
    agent.start()
    done = tree.neti("enforce", "--trial", "300", "--anyway", "--no-follow")
    assert done.returncode == 0, done.stderr
    done = tree.neti("confirm")
    assert done.returncode == 0, done.stderr
    assert "table inet neti {" in tree.rules()
    assert _stage(tree) == "enforced"
    agent.end(signal.SIGKILL)
    agent.start()
    assert _stage(tree) == "enforced"
    done = tree.neti("down")
    assert done.returncode == 0, done.stderr
    assert "chain " not in tree.rules(), tree.rules()
    agent.end(signal.SIGTERM)


def _stage(tree: Tree) -> str:
    stage: str = json.loads(tree.neti("status", "--json").stdout)["stage"]
    return stage
