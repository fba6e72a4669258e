"""The Prometheus adapter of a worker: a hook that counts into files, which the parent sums up at each scrape."""

import os
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, values

from serving.telemetry.hooks import Details
from serving.telemetry.metrics import BUDGET_RATIO, CANDIDATES, DURATION, REQUESTS, STAGE_SECONDS, Metric


def count_into(folder: Path, worker: int) -> None:
    """Let this process's metrics live in `folder`, in files named by the worker's number.

    The number outlives a restart, so a worker that was killed goes on counting where it stopped, and there are never
    more files than workers. To be called once, before the first metric is made.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: worker)  # type: ignore[no-untyped-call]


class PrometheusAdapter:
    """A hook; children of labelled metrics are kept at hand, because looking them up costs more than counting."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter(REQUESTS)
        self._candidates = self._counter(CANDIDATES)
        self._stages = self._counter(STAGE_SECONDS)
        self._ratio = self._histogram(BUDGET_RATIO)
        self._duration = self._histogram(DURATION)
        self._known: dict[tuple[Any, ...], Any] = {}

    def __call__(self, details: Details) -> None:
        """Count one request."""
        vertical, tier = details.vertical, details.tier
        self._child(self._requests, vertical, tier, details.reason, details.code, details.priority).inc()
        self._child(self._duration, vertical, tier).observe(details.spent_s)
        if details.budget_s > 0:
            self._child(self._ratio, vertical, tier).observe(details.spent_s / details.budget_s)
        if tier:
            self._child(self._candidates, vertical, tier).inc(details.candidates)
        for stage, spent_s in details.stages:
            self._child(self._stages, vertical, stage).inc(max(spent_s, 0.0))

    def _child(self, family: Any, *labels: str) -> Any:
        key = (family, labels)
        child = self._known.get(key)
        if child is None:
            child = self._known[key] = family.labels(*labels)
        return child

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.meaning, metric.labels, registry=self._registry)

    def _histogram(self, metric: Metric) -> Histogram:
        return Histogram(metric.name, metric.meaning, metric.labels, registry=self._registry, buckets=metric.edges)
