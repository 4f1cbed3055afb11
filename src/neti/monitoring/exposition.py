"""The metrics for Prometheus: as text, and as a textfile for node_exporter.

The one door to prometheus_client. The agent loads it only when ``metrics_listen`` is asked. Must
never do: ask the agent, or listen; it only renders what it is given.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, core, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from neti.errors import NetiError
from neti.monitoring.figures import Figures
from neti.monitoring.metrics import Metric, metrics

Ask = Callable[[], Figures | None]


class _Figures(Collector):
    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def describe(self) -> Iterator[core.Metric]:
        """Nothing, because the loop cannot be asked before it runs."""
        return iter(())

    def collect(self) -> Iterator[core.Metric]:
        return map(_family, metrics(self._ask()))


def _family(metric: Metric) -> core.Metric:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help)
        histogram.add_metric([], list(metric.buckets), metric.total)
        return histogram
    labels = list(metric.samples[0].labels) if metric.samples else []
    made: type[GaugeMetricFamily | CounterMetricFamily]
    made = GaugeMetricFamily if metric.kind == "gauge" else CounterMetricFamily
    family = made(metric.name, metric.help, labels=labels)
    for sample in metric.samples:
        family.add_metric(list(sample.labels.values()), sample.value)
    return family


def text(seen: Figures | None) -> bytes:
    return generate_latest(_registry(lambda: seen))


def textfile(path: Path, seen: Figures | None) -> None:
    """Whole or not at all: node_exporter may read at any moment, and reads only ``*.prom``.

    None: no agent answers. Old figures must not stay, because every alert would take them for good.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.unlink(missing_ok=True)
        number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(number, "wb") as file:
            os.fchmod(number, 0o644)  # its reader is not root
            file.write(text(seen))
        beside.replace(path)
    except OSError as error:
        raise NetiError(f"{path}: cannot be written: {error.strerror}") from error


def _registry(ask: Ask) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(ask))
    return registry
