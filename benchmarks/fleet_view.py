"""``python -m benchmarks.fleet_view [HOSTS]``: what ``neti fleet`` and ``neti dashboard`` take for
a large fleet.

One ZooKeeper on loopback with a lease, an entry and a full document of every host. The commands run
as processes of their own, as an operator starts them. What ``neti fleet`` takes without any host is
its start.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from tests.support.dashboards import Running
from tests.support.swarm import Swarm

from benchmarks.fleet import OVERLAY, member
from benchmarks.registry import LAYOUT
from neti.model import Member, entry
from neti.registry import detail
from neti.registry.detail import Document
from neti.registry.hurts import Hurts
from neti_lab.zookeeper import ZooKeeperServer

_RUNS: Final = 3


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 16_000
    with ZooKeeperServer(limits=()) as server, tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "neti.yml"
        config.write_text(
            f"zk_hosts: {{ec2: ['{server.hosts}']}}\nsite: ec2\noverlay_subnet: {OVERLAY}\n"
            f"table_files_path: {folder}/state\nzk_prefix: {LAYOUT.root}\n"
            "identity: {id: operator, private: 10.9.0.1}\n"
        )
        host, port = server.hosts.split(":")
        nodes = [*((path, b"") for path in LAYOUT.parents()), (LAYOUT.fleet, b"f")]
        _laid_out(host, int(port), nodes)
        empty = _listed(config, 0)
        print(f"filling the registry with {count:,} hosts", file=sys.stderr)
        members = [member(number) for number in range(count)]
        _laid_out(host, int(port), _nodes(members), sessions=8)
        runs = [_listed(config, count) for _ in range(_RUNS)]
        config.parent.chmod(0o755)  # as root the dashboard goes on as another user
        newcomer = _nodes([member(count)])
        shown = _dashboard(config, count, lambda: _laid_out(host, int(port), newcomer))
    wall, cpu = (median(run[part] for run in runs) for part in (0, 1))
    print(
        f"neti fleet --json, {count:,} hosts: {wall:.2f} s, {cpu:.2f} s of CPU; "
        f"without any {empty[0]:.2f} s, {empty[1]:.2f} s of CPU"
    )
    print(shown)
    return 0


def _nodes(members: Sequence[Member]) -> list[tuple[str, bytes]]:
    return [
        node
        for said, each in zip(map(_said, range(len(members))), members, strict=True)
        for node in (
            (LAYOUT.by_overlay(each.overlay), each.id.encode()),
            (LAYOUT.by_id(each.id), str(each.overlay).encode()),
            (LAYOUT.name(entry.encode(each)), b""),
            (LAYOUT.agent(each.id), detail.encode(detail.for_members(said))),
            (LAYOUT.report(each.id), detail.encode(said)),
        )
    ]


def _dashboard(config: Path, count: int, join: Callable[[], None]) -> str:
    """Its first picture, a page that is opened then, and a host that joins."""
    command = [sys.executable, "-m", "neti", "dashboard", "--config", str(config)]
    started = time.perf_counter()
    with subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            link = next(line.strip() for line in process.stdout if "#token=" in line)
            there = Running(link, process)
            while (answer := there.ask("/data/fleet")).status != 200:
                time.sleep(0.02)
            first = time.perf_counter() - started
            opened = time.perf_counter()
            answer = there.ask("/data/fleet")
            page = time.perf_counter() - opened
            if len(answer.json()["hosts"]) != count:
                raise SystemExit(f"the dashboard is wrong: {len(answer.json()['hosts'])} hosts")
            changes = there.changes(answer.json()["revision"])
            joined = time.perf_counter()
            join()
            next(one for one in changes if one["hosts"])
            return (
                f"neti dashboard, {count:,} hosts: first picture {first:.2f} s after its start; "
                f"{page:.2f} s for a page that is opened then; who joins is shown after "
                f"{time.perf_counter() - joined:.2f} s; {_resident(process.pid):.0f} MiB"
            )
        finally:
            process.terminate()


def _resident(pid: int) -> float:
    """MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def _laid_out(host: str, port: int, nodes: list[tuple[str, bytes]], sessions: int = 1) -> None:
    """For good: sessions that nobody renews would end while the command runs."""
    with Swarm(host, port, sessions) as swarm:
        swarm.create(nodes, ephemeral=False)


def _said(number: int) -> Document:
    return Document(
        name=f"web-{number}",
        pid=number + 1,
        version="0.1.0",
        installed="deb",
        stage="enforced",
        problems=("disk",) if number % 50 == 0 else (),
        encryption="off",
        member_ports="none",
        labels={"tier": "db" if number % 3 else "web"},
        config_read=1_790_000_000,
        hurts=Hurts(ports=0, sources=0),
        written=int(time.time()),
    )


def _listed(config: Path, count: int) -> tuple[float, float]:
    """Seconds, and of CPU."""
    command = [sys.executable, "-m", "neti", "fleet", "--config", str(config), "--json"]
    started, before = time.perf_counter(), _cpu()
    done = subprocess.run(command, check=True, capture_output=True)
    took = time.perf_counter() - started, _cpu() - before
    rows = json.loads(done.stdout)["members"]
    if len(rows) != count or any(row["stage"] != "enforced" for row in rows):
        raise SystemExit(f"the listing is wrong: {len(rows)} hosts, {done.stderr.decode()}")
    return took


def _cpu() -> float:
    """Of all commands so far, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
