from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from exfm.features.schema import Schema
from exporter.configure import DEFAULT_BATCHING, model_config
from exporter.lint.check import lint_config
from exporter.lint.facts import Facts, this_host
from exporter.metrics import LATENCIES, add_budget_edges


def rules(config: object) -> set[str]:
    return {finding.rule for finding in lint_config(config, Facts("feed_click", this_host(), {"budget_ms": 250.0}))}


def test_an_edge_lies_at_the_budget_and_the_linter_knows_it(own: Schema) -> None:
    config = model_config(own, 1, DEFAULT_BATCHING)
    assert "metric-buckets" in rules(config)
    add_budget_edges(config, 250.0)
    assert "metric-buckets" not in rules(config)
    (control,) = config.model_metrics.metric_control
    assert control.metric_identifier.family == LATENCIES
    assert 250.0 in control.histogram_options.buckets
    assert sorted(control.histogram_options.buckets) == list(control.histogram_options.buckets)
    assert text_format.Parse(text_format.MessageToString(config), model_config_pb2.ModelConfig()) == config
