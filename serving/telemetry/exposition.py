"""What a scrape gets: the workers' counters summed up, and what the parent knows of its processes."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.multiprocess import MultiProcessCollector

from serving.telemetry.metrics import (
    BACKEND_BREAKER,
    BACKEND_CALLS,
    BACKEND_EJECTIONS,
    BACKEND_IN_FLIGHT,
    BATCH_CALLS,
    BATCH_DROPPED,
    BATCH_REQUESTS,
    BATCH_WAITING,
    CANARY_TRUSTED,
    DOOR_SHED,
    DOOR_WAIT,
    ESTIMATE_COVERAGE,
    HEDGES,
    HEDGES_WON,
    HISTORY_LOOKUPS,
    IN_FLIGHT,
    LIMIT,
    LOG_DROPPED,
    LOG_QUEUED,
    LOG_WRITTEN,
    MODEL,
    PRIOR_AGE,
    PRIOR_REFRESHES,
    PRIOR_REFUSALS,
    PRIOR_VERSION,
    READY,
    TRITON_RESTARTS,
    WORKER_READY,
    WORKER_RESTARTS,
    WORKER_UP,
    Metric,
)

Sample = tuple[Metric, tuple[str, ...], float]
_HEADER_BYTES = 8
_OF_PRIOR = {
    PRIOR_VERSION: "version",
    PRIOR_AGE: "age_s",
    PRIOR_REFRESHES: "refreshes",
    PRIOR_REFUSALS: "refusals",
}
_OF_BATCHES = {BATCH_CALLS: "calls", BATCH_REQUESTS: "scored", BATCH_DROPPED: "dropped", BATCH_WAITING: "waiting"}
_BREAKER = ("closed", "half_open", "open")


def exposition(folder: Path, state: Mapping[str, Any]) -> bytes:
    """The text that Prometheus reads: of the workers' files in `folder`, and of the parent's `/state`."""
    registry = CollectorRegistry()
    registry.register(_Both(folder, state))
    return generate_latest(registry)


class _Both:
    def __init__(self, folder: Path, state: Mapping[str, Any]) -> None:
        self._folder = folder
        self._state = state

    def collect(self) -> Iterator[Family]:
        # A worker that is just starting, or was killed while it did, has made a file and not yet its header.
        files = [str(path) for path in self._folder.glob("*.db") if path.stat().st_size >= _HEADER_BYTES]
        yield from MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        families: dict[str, Any] = {}
        for metric, labels, value in samples(self._state):
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = families.setdefault(metric.name, kind(metric.name, metric.meaning, labels=metric.labels))
            family.add_metric(labels, value)
        yield from families.values()


def samples(state: Mapping[str, Any]) -> Iterator[Sample]:
    """The process metrics in a `/state`."""
    yield READY, (), float(state["ready"])
    yield TRITON_RESTARTS, (), float(state["triton"]["restarts"])
    for vertical, version in state["versions"].items():
        yield MODEL, (vertical, str(version)), 1.0
    for worker in state["workers"]:
        yield from _of_worker(worker)


def _of_worker(worker: Mapping[str, Any]) -> Iterable[Sample]:
    number = (str(worker["worker"]),)
    yield WORKER_UP, number, float(worker["up"])
    yield WORKER_READY, number, float(worker["ready"])
    yield WORKER_RESTARTS, number, float(worker["restarts"])
    if not worker["up"]:
        return
    said = worker["state"]
    yield IN_FLIGHT, number, float(said["in_flight"])
    for name, value in said["limits"].items():
        yield LIMIT, (*number, name), float(value)
    for vertical, facts in said["verticals"].items():
        yield CANARY_TRUSTED, (*number, vertical), float(facts["trusted"])
        if lite := facts.get("lite"):
            yield CANARY_TRUSTED, (*number, lite["name"]), float(lite["trusted"])
        for metric, fact in _OF_PRIOR.items():
            yield metric, (*number, vertical), float(facts["prior"][fact])
    yield DOOR_SHED, number, float(said["door"]["shed_share"])
    yield DOOR_WAIT, number, float(said["door"]["wait_s"])
    yield HEDGES, number, float(said["hedges"]["begun"])
    yield HEDGES_WON, number, float(said["hedges"]["won"])
    yield from _of_learning(number, said)
    for backend, facts in said["backends"].items():
        yield from _of_backend((*number, backend), facts)


def _of_learning(number: tuple[str, ...], said: Mapping[str, Any]) -> Iterable[Sample]:
    if kept := said["log"]:
        yield LOG_QUEUED, number, float(kept["queued"])
        for topic, count in kept["written"].items():
            yield LOG_WRITTEN, (*number, topic), float(count)
        for reason, count in kept["dropped"].items():
            yield LOG_DROPPED, (*number, reason), float(count)
    if histories := said["histories"]:
        for result, count in histories["found"].items():
            yield HISTORY_LOOKUPS, (*number, result), float(count)


def _of_backend(labels: tuple[str, ...], said: Mapping[str, Any]) -> Iterable[Sample]:
    yield BACKEND_IN_FLIGHT, labels, float(said["in_flight_s"])
    yield BACKEND_CALLS, labels, float(said["calls"])
    for vertical, facts in said["verticals"].items():
        yield BACKEND_BREAKER, (*labels, vertical), float(_BREAKER.index(facts["breaker"]))
        yield ESTIMATE_COVERAGE, (*labels, vertical), float(facts["coverage"])
        if batches := facts.get("batches"):
            for metric, fact in _OF_BATCHES.items():
                yield metric, (*labels, vertical), float(batches[fact])
        for cause, count in facts["ejections"].items():
            yield BACKEND_EJECTIONS, (*labels, vertical, cause), float(count)
