"""Alerts, dashboard and page speak of the same things, and of things that there are."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.test_metrics import SEEN

from neti.metrics import metrics

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
    known |= {"le", "instance", "job"}
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
