"""The metrics for Prometheus: as text, as a textfile for node_exporter, and over HTTP.

The one door to prometheus_client. The agent loads it only when ``metrics_listen`` is set.
Must never do: ask the loop by anything but its queue, or listen on an address that was not named.
"""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from neti.errors import NetiError
from neti.metrics import Metric, metrics

Figures = Callable[[], Mapping[str, Any] | None]


class _Figures(Collector):
    def __init__(self, ask: Figures) -> None:
        self._ask = ask

    def describe(self) -> Iterator[Family]:
        """Nothing: the loop is not to be asked before it runs."""
        return iter(())

    def collect(self) -> Iterator[Family]:
        return map(_family, metrics(self._ask()))


def _family(metric: Metric) -> Family:
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


def text(seen: Mapping[str, Any] | None) -> bytes:
    return generate_latest(_registry(lambda: seen))


def textfile(path: Path, seen: Mapping[str, Any] | None) -> None:
    """Whole or not at all: node_exporter may read at any moment, and reads only ``*.prom``.

    None: no agent answers. Old figures must not stay, or every alert would find them good.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.unlink(missing_ok=True)
        number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(number, "wb") as file:
            os.fchmod(number, 0o644)  # whoever reads it is not root
            file.write(text(seen))
        beside.replace(path)
    except OSError as error:
        raise NetiError(f"{path}: cannot be written: {error.strerror}") from error


class Exporter:
    """``http://LISTEN/metrics``. ``ask`` is called by a thread of its own for each scrape."""

    def __init__(self, listen: str, ask: Figures) -> None:
        host, _, port = listen.rpartition(":")
        try:
            address = socket.getaddrinfo(
                host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0][4]
            self._server, self._thread = start_http_server(
                int(port), addr=str(address[0]), registry=_registry(ask)
            )
        except OSError as error:
            raise NetiError(
                f"metrics_listen {listen}: cannot be listened on: {error.strerror}"
            ) from error

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


def _registry(ask: Figures) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(ask))
    return registry
