"""Where it happens: three network namespaces, a ZooKeeper, an agent; and the end of them.

    registry (ZooKeeper, 10.0.0.1) ── eth0 host (neti agent, 10.0.0.5)      raw (libnftables only)

Must never do: touch the machine's own network, or end a process that it did not start.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

import yaml

from benchmarks import registry
from benchmarks.fleet import AGENT_PRIVATE, ZOOKEEPER, ZOOKEEPER_PORT, configuration
from benchmarks.kernel import KernelEvents
from neti.agent import control
from neti.config import load
from neti.dataplane.libnftables import Nftables
from neti.dataplane.nftables import NftablesDataplane
from neti.errors import DataplaneError, NetiError
from neti.lab import namespaces
from neti.lab.wiring import Node, Wiring
from neti.lab.zookeeper import ZooKeeperServer
from neti.ruleset import FAMILY_TABLE
from neti.settings import Settings

_IDLE_SECONDS: Final = 0.005  # of CPU in a second
_SYSCTLS: Final = {"ip_forward": "0", "rp_filter": "0"}


class Agent:
    """One ``neti agent`` process."""

    def __init__(self, process: "subprocess.Popen[bytes]", state: Path, log: Path) -> None:
        self._process = process
        self._state = state
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        if self._process.poll() is not None:
            raise NetiError(f"the agent ended: {self._last_words()}")

    def cpu_seconds(self) -> float:
        """User and system time of all its threads that live, to the nanosecond; what
        /proc/PID/stat says is the same in hundredths of a second."""
        total = 0
        for path in Path(f"/proc/{self.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # a thread that has just ended
                total += int(path.read_text().split()[0])
        return total / 1e9

    def wait_until_idle(self, seconds: float = 60.0) -> None:
        """Until it has done nothing for a second."""
        deadline = time.monotonic() + seconds
        used = self.cpu_seconds()
        while True:
            time.sleep(1.0)
            self.check()
            before, used = used, self.cpu_seconds()
            if used - before < _IDLE_SECONDS:
                return
            if time.monotonic() > deadline:
                raise NetiError(f"the agent is still busy after {seconds:.0f} s")

    def memory_mib(self) -> tuple[float, float]:
        """Resident now, and at most so far."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        kib = {
            name: int(rest.split()[0])
            for name, _, rest in (line.partition(":") for line in lines)
            if name in {"VmRSS", "VmHWM"}
        }
        return kib["VmRSS"] / 1024, kib["VmHWM"] / 1024

    def leave(self) -> None:
        """As ``neti leave``: deregister and stop, so that the next one finds no earlier self."""
        deadline = time.monotonic() + 10
        while True:
            try:
                control.call(self._state, "leave")
                break
            except NetiError:  # not registered yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        self._process.wait(10)

    def end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return " / ".join(lines[-3:]) or "it said nothing"


class Stage:
    """As a context manager it is built, and taken down again whatever happens within."""

    def __init__(self) -> None:
        prefix = f"neti-bench-{os.getpid()}"
        self.registry, self.host, self.raw = (f"{prefix}-{part}" for part in ("zk", "host", "raw"))
        self._stack = ExitStack()
        self.folder = Path()
        self.zookeeper: ZooKeeperServer
        self.settings: Settings

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="neti-bench-"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            stack.callback(namespaces.delete, (self.registry, self.host, self.raw))
            namespaces.build(self._wiring())
            self.zookeeper = stack.enter_context(
                ZooKeeperServer(
                    address=str(ZOOKEEPER), port=ZOOKEEPER_PORT, namespace=self.registry
                )
            )
            namespaces.call_inside(self.registry, registry.lay_out)
            config = yaml.safe_dump(configuration(str(self._state)), sort_keys=False)
            self._config.write_text(config)
            self.settings = load(self._config)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def _state(self) -> Path:
        return self.folder / "state"

    @property
    def _config(self) -> Path:
        return self.folder / "neti.yml"

    # --- the agent ---

    @contextlib.contextmanager
    def agent(self) -> Iterator[Agent]:
        """A new agent on a host that has never had one; it is ended, and its rules stay."""
        self._clean_host()
        log = self.folder / "agent.log"
        command = [sys.executable, "-m", "neti", "agent", "-c", str(self._config)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                namespaces.command_inside(self.host, command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        agent = Agent(process, self._state, log)
        try:
            yield agent
        finally:
            agent.end()

    def _clean_host(self) -> None:
        shutil.rmtree(self._state, ignore_errors=True)
        self._state.mkdir(mode=0o700)
        nft = namespaces.call_inside(self.host, Nftables)
        with contextlib.suppress(DataplaneError):  # there is no table yet
            nft.run(f"delete table {FAMILY_TABLE}")
        nft.close()
        flush = ["ip", "-4", "route", "flush", "exact", str(self.settings.overlay_subnet)]
        inside = namespaces.command_inside(self.host, flush)
        subprocess.run(inside, check=False, capture_output=True)

    def overlay_count(self) -> int:
        """How many overlay addresses the agent's kernel holds. Not cheap: not while measuring."""
        nft = namespaces.call_inside(self.host, Nftables)
        try:
            answer = nft.query(f"list map {FAMILY_TABLE} overlay")
        except DataplaneError:
            return 0
        finally:
            nft.close()
        return next((len(item["map"].get("elem", ())) for item in answer if "map" in item), 0)

    # --- doors into the namespaces ---

    def events(self, namespace: str) -> KernelEvents:
        return namespaces.call_inside(namespace, KernelEvents)

    def session(self) -> registry.Session:
        return namespaces.call_inside(self.registry, registry.Session)

    def raw_dataplane(self) -> NftablesDataplane:
        return namespaces.call_inside(self.raw, NftablesDataplane)

    def _wiring(self) -> Wiring:
        link = f"link add eth0 netns {self.registry} type veth peer name eth0 netns {self.host}"
        return Wiring(
            create=(self.registry, self.host, self.raw),
            links=(link,),
            nodes=(
                Node(
                    namespace=self.registry,
                    sysctls=_SYSCTLS,
                    commands=(
                        "link set lo up",
                        f"address add {ZOOKEEPER}/16 dev eth0",
                        "link set eth0 up",
                    ),
                ),
                Node(
                    namespace=self.host,
                    sysctls=_SYSCTLS,
                    commands=(
                        "link set lo up",
                        f"address add {AGENT_PRIVATE}/16 dev eth0",
                        "link set eth0 up",
                        f"route add default via {ZOOKEEPER}",
                    ),
                ),
                Node(namespace=self.raw, sysctls=_SYSCTLS, commands=("link set lo up",)),
            ),
        )
