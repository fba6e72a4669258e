"""Every metric that this server exposes, in one typed list; `docs/metrics.md` and both adapters are made from it."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Unit = Literal["", "seconds", "ratio"]

BUDGET_EDGES = (0.1, 0.25, 0.5, 0.8, 0.9, 1.0, 1.1, 1.5, 2.0)
"""In multiples of the request's own budget: an edge at 1.0 makes the share inside the budget exact."""
SECONDS_EDGES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Metric:
    """One metric family.

    Attributes:
        name: as scraped; counters end in `_total`.
        kind: of Prometheus.
        meaning: the help text; one line.
        labels: their names. None ever holds something that a caller made up, so their number is bounded.
        unit: of the values; empty: a count or a truth value.
        edges: upper bounds of a histogram's buckets, in its unit.
    """

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    unit: Unit = ""
    edges: tuple[float, ...] = ()


REQUESTS = Metric(
    "exfm_requests_total",
    "counter",
    "Requests answered or refused; tier is empty for refusals, code is gRPC's.",
    ("vertical", "tier", "reason", "code", "priority"),
)
CANDIDATES = Metric("exfm_candidates_total", "counter", "Candidates in answered requests.", ("vertical", "tier"))
BUDGET_RATIO = Metric(
    "exfm_request_budget_ratio",
    "histogram",
    "Time from arrival to answer or refusal, as a share of the request's own budget.",
    ("vertical", "tier"),
    "ratio",
    BUDGET_EDGES,
)
DURATION = Metric(
    "exfm_request_duration_seconds",
    "histogram",
    "Time from arrival to answer or refusal.",
    ("vertical", "tier"),
    "seconds",
    SECONDS_EDGES,
)
STAGE_SECONDS = Metric(
    "exfm_stage_seconds_total",
    "counter",
    "Time that requests spent per stage of the ledger.",
    ("vertical", "stage"),
    "seconds",
)
READY = Metric("exfm_ready", "gauge", "1 while at least one worker trusts every canary.")
WORKER_UP = Metric("exfm_worker_up", "gauge", "1 while the worker lives and reports in time.", ("worker",))
WORKER_READY = Metric("exfm_worker_ready", "gauge", "1 while the worker trusts every canary.", ("worker",))
WORKER_RESTARTS = Metric(
    "exfm_worker_restarts_total", "counter", "How often the worker was started again.", ("worker",)
)
IN_FLIGHT = Metric("exfm_in_flight", "gauge", "Requests that are being worked on.", ("worker",))
LIMIT = Metric("exfm_limit", "gauge", "The worker's limits, by name.", ("worker", "limit"))
CANARY_TRUSTED = Metric(
    "exfm_canary_trusted",
    "gauge",
    "1 while the canary is trusted; a lite model stands under its own name.",
    ("worker", "vertical"),
)
BACKEND_BREAKER = Metric(
    "exfm_backend_breaker",
    "gauge",
    "0: closed, requests pass; 1: half-open, a canary is on its way; 2: open.",
    ("worker", "backend", "vertical"),
)
BACKEND_EJECTIONS = Metric(
    "exfm_backend_ejections_total",
    "counter",
    "How often the breaker has opened on a trusted backend; cause is wrong, gone or silent.",
    ("worker", "backend", "vertical", "cause"),
)
BACKEND_IN_FLIGHT = Metric(
    "exfm_backend_in_flight_seconds", "gauge", "Work in flight on the backend.", ("worker", "backend"), "seconds"
)
BACKEND_CALLS = Metric("exfm_backend_calls", "gauge", "Calls in flight on the backend.", ("worker", "backend"))
BATCH_CALLS = Metric(
    "exfm_batch_calls_total",
    "counter",
    "Calls that ended well, each with a batch of requests; where the frontend forms batches.",
    ("worker", "backend", "vertical"),
)
BATCH_REQUESTS = Metric(
    "exfm_batch_requests_total", "counter", "Requests in those calls.", ("worker", "backend", "vertical")
)
BATCH_DROPPED = Metric(
    "exfm_batch_dropped_total",
    "counter",
    "Requests that left the queue, or were not let in, because they would have been late.",
    ("worker", "backend", "vertical"),
)
BATCH_WAITING = Metric(
    "exfm_batch_waiting", "gauge", "Requests that wait for the next batch.", ("worker", "backend", "vertical")
)
ESTIMATE_COVERAGE = Metric(
    "exfm_estimate_coverage_ratio",
    "gauge",
    "Share of the latest calls, about a thousand, that took no longer than their predicted p99.",
    ("worker", "backend", "vertical"),
    "ratio",
)
DOOR_SHED = Metric(
    "exfm_door_shed_ratio", "gauge", "Share of requests that the door refuses now.", ("worker",), "ratio"
)
DOOR_WAIT = Metric(
    "exfm_door_wait_seconds", "gauge", "How long the way in takes, from socket to code.", ("worker",), "seconds"
)
HEDGES = Metric("exfm_hedges_total", "counter", "Second calls made for late first ones.", ("worker",))
HEDGES_WON = Metric("exfm_hedges_won_total", "counter", "Second calls that answered first.", ("worker",))
MODEL = Metric(
    "exfm_model_info",
    "gauge",
    "Always 1; the label says which version is served, a lite model's under its own name.",
    ("vertical", "version"),
)
PRIOR_VERSION = Metric(
    "exfm_prior_version",
    "gauge",
    "Which refresh of the prior is in use; 0: the one published with the model.",
    ("worker", "vertical"),
)
PRIOR_AGE = Metric(
    "exfm_prior_age_seconds", "gauge", "Time since the prior in use was written.", ("worker", "vertical"), "seconds"
)
PRIOR_REFRESHES = Metric(
    "exfm_prior_refreshes_total", "counter", "Refreshed priors that were taken up.", ("worker", "vertical")
)
PRIOR_REFUSALS = Metric(
    "exfm_prior_refusals_total",
    "counter",
    "Refreshed priors that were refused: torn, of another shape, not probabilities, or older than the model's own.",
    ("worker", "vertical"),
)
LOG_WRITTEN = Metric(
    "exfm_log_written_total", "counter", "Events that are durable in the log, by topic.", ("worker", "topic")
)
LOG_DROPPED = Metric(
    "exfm_log_dropped_total",
    "counter",
    "Impressions that were not kept; "
    "reason is not_delivered, queue_full, no_request_id, log_failed, not_encoded or closed.",
    ("worker", "reason"),
)
LOG_QUEUED = Metric("exfm_log_queued", "gauge", "Impressions that wait to be written.", ("worker",))
HISTORY_LOOKUPS = Metric(
    "exfm_history_lookups_total",
    "counter",
    "Histories asked for; result is hit, or why none: miss, no_user, timeout, busy, outage, broken or other_space.",
    ("worker", "result"),
)
TRITON_RESTARTS = Metric("exfm_triton_restarts_total", "counter", "How often the embedded Triton was started again.")

REQUEST_METRICS = (REQUESTS, CANDIDATES, BUDGET_RATIO, DURATION, STAGE_SECONDS)
"""Counted in the workers, once per request, and summed over them."""
PROCESS_METRICS = (
    READY,
    WORKER_UP,
    WORKER_READY,
    WORKER_RESTARTS,
    IN_FLIGHT,
    LIMIT,
    CANARY_TRUSTED,
    BACKEND_BREAKER,
    BACKEND_EJECTIONS,
    BACKEND_IN_FLIGHT,
    BACKEND_CALLS,
    BATCH_CALLS,
    BATCH_REQUESTS,
    BATCH_DROPPED,
    BATCH_WAITING,
    ESTIMATE_COVERAGE,
    DOOR_SHED,
    DOOR_WAIT,
    HEDGES,
    HEDGES_WON,
    MODEL,
    PRIOR_VERSION,
    PRIOR_AGE,
    PRIOR_REFRESHES,
    PRIOR_REFUSALS,
    LOG_WRITTEN,
    LOG_DROPPED,
    LOG_QUEUED,
    HISTORY_LOOKUPS,
    TRITON_RESTARTS,
)
"""Known to the parent, read from the workers' reports at each scrape."""
METRICS = REQUEST_METRICS + PROCESS_METRICS
