"""``python -m benchmarks.fleet_view [HOSTS]``: what ``neti fleet`` takes for a large fleet.

One ZooKeeper on loopback with a lease, an entry and a full document of every host. The command runs
as a process of its own, as an operator starts it. What it takes without any host is its start.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from tests.support.swarm import Swarm

from benchmarks.fleet import OVERLAY, member
from benchmarks.registry import LAYOUT
from neti.model import entry
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
        _laid_out(
            host,
            int(port),
            [
                node
                for said, each in zip(map(_said, range(count)), members, strict=True)
                for node in (
                    (LAYOUT.by_overlay(each.overlay), each.id.encode()),
                    (LAYOUT.by_id(each.id), str(each.overlay).encode()),
                    (LAYOUT.name(entry.encode(each)), b""),
                    (LAYOUT.agent(each.id), detail.encode(detail.for_members(said))),
                    (LAYOUT.report(each.id), detail.encode(said)),
                )
            ],
            sessions=8,
        )
        runs = [_listed(config, count) for _ in range(_RUNS)]
    wall, cpu = (median(run[part] for run in runs) for part in (0, 1))
    print(
        f"neti fleet --json, {count:,} hosts: {wall:.2f} s, {cpu:.2f} s of CPU; "
        f"without any {empty[0]:.2f} s, {empty[1]:.2f} s of CPU"
    )
    return 0


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
