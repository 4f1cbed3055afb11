"""Alerts, dashboard and page speak of the same things, and of things that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from tests.unit.monitoring.test_metrics import SEEN

from neti.cli import cli
from neti.dataplane.way_out import Held
from neti.identity.machine import fingerprint
from neti.monitoring.metrics import metrics
from neti.registry import Session
from neti.stage.stages import Record
from neti.state.folder import StateFolder
from neti.state.records import Self

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text()
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/neti-alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((ROOT / "deploy/neti-dashboard.json").read_text())
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]
ON_THE_PAGE = re.findall(r"^```promql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
EXPRESSIONS += [
    line for block in ON_THE_PAGE for line in block.splitlines() if not line.startswith("#")
]
NAMES = {name for metric in metrics(SEEN) for name in metric.names}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_every_alert_has_its_section(rule: dict[str, Any]) -> None:
    """What it means, what to look at, what to do."""
    match = re.search(rf"^## {rule['alert']}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match is not None
    for word in ("**Means**", "**Look at", "do**"):
        assert word.lower() in match[1].lower()
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"]


def test_no_section_without_its_alert() -> None:
    """A page that tells of an alarm which nobody raises is out of date."""
    sections = re.findall(r"^## (Neti\w+)$", PAGE, re.MULTILINE)
    assert sections == [rule["alert"] for rule in RULES]


def test_queries_ask_for_what_there_is() -> None:
    """By the names that Prometheus sees, a counter's _total and a histogram's parts included."""
    asked = {name for text in EXPRESSIONS for name in re.findall(r"\bneti_\w+", text)}
    assert asked <= NAMES
    assert len(asked) > 15


def test_labels_are_such_as_the_metrics_have() -> None:
    """A query by a label that is never set finds nothing, and says nothing."""
    known = {label for m in metrics(SEEN) for s in m.samples for label in s.labels}
    known |= {"le", "instance", "job", "file"}  # file: node_exporter's
    for text in EXPRESSIONS:
        asked = set(re.findall(r"(\w+)=~?\"", text))
        for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", text):
            asked |= set(re.split(r",\s*", group))
        assert asked <= known, text


@pytest.mark.parametrize("metric", metrics(SEEN), ids=lambda metric: str(metric.name))
def test_the_page_explains_every_metric(metric: Any) -> None:
    """By the name that is asked for; a histogram by its own."""
    name = metric.name if metric.kind == "histogram" else metric.names[0]
    assert f"`{name}`" in PAGE


def test_the_dashboard_shows_every_panel_somewhere_else() -> None:
    """No two panels on one place, no two of one number."""
    places = [tuple(panel["gridPos"].values()) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)


def _units() -> dict[str, str]:
    """The units that the page prints: file name to content."""
    blocks = re.findall(
        r"^```ini\n# /etc/systemd/system/(\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
    )
    return dict(blocks)


def test_the_timer_on_the_page_writes_what_the_alert_asks_for(tmp_path: Path) -> None:
    """systemd accepts both units, and the textfile's name is the one that the alert knows."""
    units = _units()
    assert set(units) == {"neti-metrics.service", "neti-metrics.timer"}
    written = re.findall(r"--textfile (\S+)", units["neti-metrics.service"])
    (gone,) = [rule["expr"] for rule in RULES if rule["alert"] == "NetiAgentGone"]
    pattern = re.findall(r'file=~"([^"]+)"', gone)
    assert re.fullmatch(pattern[0], written[0])
    assert "neti_agent_up == 0" in gone
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for name, content in units.items():
        # The program need not be installed to judge its unit.
        (tmp_path / name).write_text(content.replace("/usr/bin/neti", "/bin/true"))
    paths = [str(tmp_path / name) for name in units]
    words = ["systemd-analyze", "verify", "--man=no", *paths]
    judged = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (judged.returncode, judged.stdout + judged.stderr) == (0, "")


def test_what_status_prints_without_an_agent_is_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scripts go by its keys."""
    (block,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    shown = json.loads(block)
    monkeypatch.setattr("neti.dataplane.way_out.held", lambda: Held(drops=True, requires=True))
    config = tmp_path / "neti.yml"
    config.write_text(
        f"registry: embedded:{tmp_path}/r.db\nsite: vpc\ntable_files_path: {tmp_path}/state\n"
    )

    def told() -> Any:
        done = CliRunner().invoke(cli, ["status", "--json", "-c", str(config)])
        assert done.exit_code == 1
        return json.loads(done.stdout)

    assert told() == {"agent": "not running", "on_disk": None, "in_kernel": None}
    name = "1.0a00000100000000c0a80307.0.vpc.db-1"
    folder = StateFolder(tmp_path / "state")
    folder.load(fingerprint())
    folder.save_self(Self(overlay="192.168.3.7", entry=name))
    folder.save_session(Session(7, b"secret"))
    folder.save_record(Record(wished=True, confirmed=True, requires=True))
    found = told()
    assert found == {**shown, "on_disk": {**shown["on_disk"], "members": 0}}
