"""What the agent tells Prometheus: names, sums, files, and a server on one address only."""

import re
import stat
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from neti.agent.exporting import Exporter
from neti.cli import cli
from neti.errors import NetiError
from neti.model.document import plain, read
from neti.monitoring import exposition
from neti.monitoring.figures import Conntrack, Figures
from neti.monitoring.histogram import BUCKETS, Measured
from neti.monitoring.metrics import metrics

DOCUMENT: dict[str, Any] = {
    "version": "0.1.0",
    "site": "vpc",
    "registry": "zookeeper",
    "sites": {"vpc": 3, "ec2": 16000},
    "lost": 1,
    "held": 2,
    "skipped": 4,
    "problems": {"warning": 1},
    "codes": [("disk", "warning")],
    "registered": True,
    "fresh": False,
    "stale_seconds": 61.5,
    "stage": "trial",
    "wished": True,
    "relaxed": False,
    "failures": 0,
    "down": False,
    "counters": {"judged": 7, "admitted": 9},
    "apply": plain(Measured().apply.told()),
    "change": plain(Measured().change.told()),
    "repairs": 5,
    "fight": False,
    "conntrack": {"count": 10, "max": 262144},
    "encryption": {
        "implementation": "wireguard-go",
        "peers": 5,
        "shaken": 3,
        "oldest_handshake": 1000.0,
        "last_handshake": 1100.0,
        "received": 148,
        "sent": 92,
        "keyless": 1,
        "unheard_count": 2,
        "require_configured": True,
        "sites": {"ec2": {"asked": "require", "plain": 1, "preferred": 7}},
    },
}
SEEN = read(Figures, DOCUMENT)
GATEWAY = replace(
    SEEN,
    counters={"passed_outward": 5, "passed_inward": 6, "probes": 7, "gateway_unknown": 8},
    passed_bytes={"passed_outward": 500, "passed_inward": 600, "probes": 336},
)
LABELS = {"site", "stage", "version", "registry", "severity", "code"}
LABELS |= {"implementation", "asked", "road", "handshake", "direction", "reason"}


def samples(seen: Figures) -> dict[tuple[str, str], float]:
    """As Prometheus reads them: (name, the one label's value) to value."""
    text = exposition.text(seen).decode()
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_reads_what_the_agent_tells() -> None:
    """Each figure under its name, members by site, and one stage of three."""
    read = samples(SEEN)
    assert read["neti_members", "ec2"] == 16000
    assert read["neti_members_held", ""] == 2
    assert read["neti_registry_fresh", ""] == 0
    assert read["neti_registry_stale_seconds", ""] == 61.5
    stages = {stage: read["neti_stage", stage] for stage in ("shadow", "trial", "enforced")}
    assert stages == {"shadow": 0, "trial": 1, "enforced": 0}
    assert read["neti_judged_packets_total", ""] == 7
    assert read["neti_drift_repairs_total", ""] == 5
    assert read["neti_conntrack_entries_limit", ""] == 262144


def test_the_next_versions_figures_are_read() -> None:
    """With a key more, and with other bounds; and those of a version before, without its newest
    keys."""
    newer = {
        **DOCUMENT,
        "format": 2,
        "uptime": 5,
        "apply": {"bounds": [1, 2], "counts": [1, 2, 3], "total": 9, "unit": "s"},
    }
    found = samples(read(Figures, newer))
    assert found["neti_apply_seconds_count", ""] == 6
    older = {key: value for key, value in DOCUMENT.items() if key not in ("codes", "relaxed")}
    assert read(Figures, older).codes == ()


def test_names_keep_to_the_conventions() -> None:
    """A prefix, base units, _total on counters only, and no label that names a peer."""
    for metric in (*metrics(SEEN), *metrics(GATEWAY)):
        assert re.fullmatch(r"neti(_[a-z]+)+", metric.name)
        assert metric.help.endswith(".")
        assert not metric.name.endswith(("_total", "_ms", "_milliseconds", "_percent"))
        assert all(set(s.labels) <= LABELS for s in metric.samples)
    assert len(exposition.text(SEEN).splitlines()) < 150


def test_the_encrypted_road_has_figures() -> None:
    """Members by road and peers by handshake; nothing at all where no site encrypts."""
    found = {
        (metric.name, *sample.labels.values()): sample.value
        for metric in metrics(SEEN)
        for sample in metric.samples
        if metric.name.startswith("neti_encryption")
    }
    assert found["neti_encryption_info", "wireguard-go"] == 1
    assert found["neti_encryption_members", "ec2", "require", "preferred"] == 7
    assert found["neti_encryption_members", "ec2", "require", "none"] == 0
    assert found["neti_encryption_peers", "yes"] == 3
    assert found["neti_encryption_peers", "no"] == 2
    assert found["neti_encryption_silent_members",] == 2
    assert found["neti_encryption_required",] == 0
    assert found["neti_encryption_last_handshake_seconds",] == 1100
    plain_only = metrics(replace(SEEN, encryption=None))
    assert not [metric for metric in plain_only if "encryption" in metric.name]


def test_a_gateway_says_what_it_passes_on_and_other_hosts_say_nothing_of_it() -> None:
    """What the kernel does not count is missing."""
    found = samples(GATEWAY)
    assert {key: value for key, value in found.items() if "gateway" in key[0]} == {
        ("neti_gateway_packets_total", "outward"): 5,
        ("neti_gateway_packets_total", "inward"): 6,
        ("neti_gateway_bytes_total", "outward"): 500,
        ("neti_gateway_bytes_total", "inward"): 600,
        ("neti_gateway_dropped_packets_total", "unknown"): 8,
        ("neti_gateway_probes_total", ""): 7,
    }
    assert not [name for name, _ in samples(SEEN) if "gateway" in name]


def test_a_kernel_that_does_not_track_has_no_fill() -> None:
    """Absent is not zero."""
    read = samples(replace(SEEN, conntrack=Conntrack(), counters={}))
    assert not [name for name, _ in read if "conntrack" in name or "packets" in name]


def test_the_time_to_the_kernel_counts_from_the_hearing() -> None:
    """Through gathering and refusals; what came to nothing counts for nothing."""
    measured = Measured()
    measured.heard(10.0, pending=True)
    measured.heard(10.2, pending=True)  # a second one, gathered with the first
    measured.applied(10.39, 10.4)
    measured.heard(20.0, pending=False)
    measured.applied(30.0, 30.01)  # a repair: nothing had been heard
    assert sum(measured.change.counts) == 1
    assert measured.change.total == pytest.approx(0.4)
    assert sum(measured.apply.counts) == 2
    read = samples(replace(SEEN, apply=measured.apply.told(), change=measured.change.told()))
    assert read["neti_change_to_kernel_seconds_bucket", "0.25"] == 0
    assert read["neti_change_to_kernel_seconds_bucket", "1.0"] == 1
    assert read["neti_change_to_kernel_seconds_count", ""] == 1
    assert read["neti_apply_seconds_sum", ""] == pytest.approx(0.02)


@pytest.mark.parametrize(("seconds", "bucket"), [(0.0, 0), (BUCKETS[3], 3), (1e9, len(BUCKETS))])
def test_a_bound_belongs_to_its_bucket(seconds: float, bucket: int) -> None:
    """At or below, as Prometheus means it; above all of them is a bucket too."""
    measured = Measured()
    measured.apply.observe(seconds)
    assert measured.apply.counts[bucket] == 1


def test_a_textfile_is_whole_and_readable(tmp_path: Path) -> None:
    """node_exporter runs as another user, and reads whenever it likes."""
    path = tmp_path / "neti.prom"
    path.write_text("old")
    exposition.textfile(path, SEEN)
    assert path.read_bytes() == exposition.text(SEEN)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [p.name for p in tmp_path.iterdir()] == ["neti.prom"]
    with pytest.raises(NetiError, match=r"nowhere/neti\.prom: cannot be written: No such file"):
        exposition.textfile(tmp_path / "nowhere" / "neti.prom", SEEN)


def test_a_textfile_without_an_agent_says_so(tmp_path: Path) -> None:
    """And nothing else: the figures of an agent that is gone would keep every alert quiet."""
    config, path = tmp_path / "neti.yml", tmp_path / "neti.prom"
    config.write_text(
        f"registry: embedded:{tmp_path}/registry.db\ntable_files_path: {tmp_path}/state\n"
        "identity: {id: a, private: 10.0.0.5}\nsite: ec2\nsites: {ec2: {private: [10.0.0.0/8]}}\n"
    )
    exposition.textfile(path, SEEN)
    assert "neti_agent_up 1.0\n" in path.read_text()
    words = ["metrics", "-c", str(config), "--textfile"]
    done = CliRunner().invoke(cli, [*words, str(path)])
    assert done.exit_code == 1
    assert "agent" in done.stderr
    said = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert said == ["neti_agent_up 0.0"]
    # A configuration that cannot be read tells as little.
    exposition.textfile(path, SEEN)
    config.unlink()
    assert CliRunner().invoke(cli, [*words, str(path)]).exit_code == 2
    assert "neti_agent_up 0.0\n" in path.read_text()

    for name in ("neti.txt", "neti.prom.new", "neti", ".prom"):
        refused = CliRunner().invoke(cli, [*words, str(tmp_path / name)])
        assert refused.exit_code == 2
        assert "does not end in .prom" in refused.stderr
        assert not (tmp_path / name).exists()


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_the_server_listens_on_its_address_only() -> None:
    """Not on the machine's other addresses; a second one on it is refused in words."""
    port = free_port()
    exporter = Exporter(f"127.0.0.1:{port}", lambda: exposition.text(SEEN))
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            assert b"neti_members_held 2.0" in answer.read()
        with pytest.raises(urllib.error.URLError, match="refused"):
            urllib.request.urlopen(f"http://127.0.0.2:{port}/metrics", timeout=20)
        with pytest.raises(NetiError, match=f"metrics_listen 127.0.0.1:{port}: cannot be listened"):
            Exporter(f"127.0.0.1:{port}", lambda: exposition.text(SEEN))
    finally:
        exporter.close()


def test_a_loop_that_does_not_answer_is_an_error_not_old_figures() -> None:
    """Prometheus then says that the target is down."""

    def silent() -> bytes:
        raise NetiError("the agent did not answer in 30 s")

    port = free_port()
    exporter = Exporter(f"127.0.0.1:{port}", silent)
    try:
        with pytest.raises(urllib.error.HTTPError, match="500"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20)
    finally:
        exporter.close()
