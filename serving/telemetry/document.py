"""`python -m serving.telemetry.document > docs/metrics.md`: the list of metrics as a page."""

import sys

from serving.telemetry.metrics import BUDGET_RATIO, METRICS, Metric

HEAD = """# Metrics

Scraped from `/metrics` of the ops plane (`exfm-serve --ops HOST:PORT`). This page is generated from
`serving/telemetry/metrics.py`; a test holds it to the list.

| metric | type | labels | unit | meaning |
|---|---|---|---|---|
"""
TAIL = """
Bucket edges of `{name}`: {edges}. The edge at 1.0 is the budget itself, so
`le="1.0"` over the count is the share of requests inside their budget, exactly.
"""


def document() -> str:
    """The page."""
    edges = ", ".join(f"{edge:g}" for edge in BUDGET_RATIO.edges)
    return HEAD + "".join(map(_row, METRICS)) + TAIL.format(name=BUDGET_RATIO.name, edges=edges)


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.unit} | {metric.meaning} |\n"


if __name__ == "__main__":
    sys.stdout.write(document())
