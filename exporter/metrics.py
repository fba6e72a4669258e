"""Edges of Triton's own latency histogram, one of them at the budget: only then does it tell what was in time."""

from typing import Any

LATENCIES = "nv_inference_first_response_histogram_ms"
EDGES = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0)
"""As shares of the budget."""


def add_budget_edges(config: Any, budget_ms: float) -> None:
    """Have the model's latencies counted around the budget, in milliseconds.

    Only for a Triton that knows `model_metrics`: 2.51 cannot read a `config.pbtxt` that has it.
    """
    control = config.model_metrics.metric_control.add()
    control.metric_identifier.family = LATENCIES
    control.histogram_options.buckets.extend(round(budget_ms * edge, 3) for edge in EDGES)
