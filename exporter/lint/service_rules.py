"""Ways of serving that do not go with a budget."""

import math
from collections.abc import Iterator
from typing import Any

from exporter.lint.facts import Facts
from exporter.lint.finding import Finding
from exporter.metrics import LATENCIES


def scheduling(config: Any, _: Facts) -> Iterator[Finding]:
    """Schedulers other than the dynamic batcher."""
    if config.HasField("sequence_batching"):
        yield Finding(
            "sequence-batching",
            "error",
            "sequence_batching is set",
            "requests are tied to slots of a state that a ranking does not have, and wait for them",
            "dynamic_batching",
        )
    if config.HasField("ensemble_scheduling"):
        yield Finding(
            "ensemble",
            "warning",
            "ensemble_scheduling is set",
            "each step gets the whole timeout anew, and nothing bounds their sum",
            "one model that does all of it",
        )
    if config.model_transaction_policy.decoupled:
        yield Finding(
            "decoupled",
            "error",
            "model_transaction_policy is decoupled",
            "an answer is no longer one message; the frontend does not read it",
            "leave it out",
        )


def response_cache(config: Any, _: Facts) -> Iterator[Finding]:
    """Cached answers."""
    if config.response_cache.enable:
        yield Finding(
            "response-cache",
            "warning",
            "response_cache is on",
            "raw features hardly ever repeat, so each request pays for hashing and storing and gets nothing",
            "leave it out",
        )


def agents(config: Any, _: Facts) -> Iterator[Finding]:
    """Agents change a version while it is loaded."""
    if config.model_repository_agents.agents:
        yield Finding(
            "agents",
            "warning",
            "model_repository_agents is set",
            "an agent may load other files than those that were signed",
            "exfm-export verify checks every file",
        )


def metric_buckets(config: Any, facts: Facts) -> Iterator[Finding]:
    """A histogram answers how many were in time only if an edge lies at the budget."""
    if facts.budget_us is None:
        return
    budget_ms = facts.budget_us / 1e3
    controls = config.model_metrics.metric_control
    edges = [
        edge
        for control in controls
        if control.metric_identifier.family == LATENCIES
        for edge in control.histogram_options.buckets
    ]
    if not any(math.isclose(edge, budget_ms) for edge in edges):
        yield Finding(
            "metric-buckets",
            "advice",
            f"{LATENCIES} has no edge at {budget_ms:g} ms",
            "Triton's own histogram (edges 100, 500, 2000, 5000 ms) cannot tell what was in time",
            "exfm-export --metric-buckets, if the Triton that serves knows model_metrics (2.51 does not)",
        )


RULES = (scheduling, response_cache, agents, metric_buckets)
