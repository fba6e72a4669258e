"""The list of metrics keeps Prometheus's rules, and the page is made from it."""

from pathlib import Path

import pytest

from serving.telemetry.document import document
from serving.telemetry.metrics import BUDGET_EDGES, METRICS, REQUEST_METRICS, Metric

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_each_metric_keeps_the_rules(metric: Metric) -> None:
    assert metric.name.startswith("exfm_")
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    assert bool(metric.edges) == (metric.kind == "histogram")
    assert list(metric.edges) == sorted(set(metric.edges))
    assert not metric.unit or metric.unit in metric.name
    assert metric.meaning.endswith(".")


def test_names_are_unique_and_request_metrics_are_no_gauges() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    # A gauge of a killed worker would go on being summed up.
    assert {metric.kind for metric in REQUEST_METRICS} == {"counter", "histogram"}


def test_the_budget_is_an_edge() -> None:
    assert {0.5, 0.8, 0.9, 1.0, 1.1} <= set(BUDGET_EDGES)


def test_the_page_is_the_list() -> None:
    assert PAGE.read_text(encoding="utf-8") == document()
