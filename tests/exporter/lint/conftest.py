"""A configuration that is sound, to be spoilt."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from exporter.lint.check import lint_config
from exporter.lint.facts import Facts, Host

SOUND = """
name: "m" backend: "python" max_batch_size: 8
version_policy { specific { versions: 3 } }
input { name: "candidate_ids" data_type: TYPE_INT64 dims: [-1, 2] allow_ragged_batch: true }
output { name: "probability" data_type: TYPE_FP32 dims: [-1, 1] }
output { name: "unknown" data_type: TYPE_INT32 dims: [1] }
instance_group { count: 3 kind: KIND_CPU }
parameters { key: "schema_hash" value { string_value: "abc" } }
dynamic_batching { priority_levels: 3 default_priority_level: 1 default_queue_policy {
  timeout_action: REJECT default_timeout_microseconds: 25000 allow_timeout_override: true max_queue_size: 64
} }
model_metrics { metric_control {
  metric_identifier { family: "nv_inference_first_response_histogram_ms" } histogram_options { buckets: [5, 25] }
} }
"""
MANIFEST = {
    "schema_hash": "abc",
    "budget_ms": 25.0,
    "tasks": ["click"],
    "tensors": [{"name": "candidate_ids", "dtype": "int64", "width": 2}],
    "profile": {"buckets": {"200": {"p99_ms": 3.0}}},
}
Spoil = Callable[..., list[str]]


@pytest.fixture
def spoil() -> Spoil:
    """`spoil(change, manifest={}, gpus=0, files=())`: rules that speak once `change` was made to a sound message."""

    def rules(
        change: Callable[[Any], object],
        manifest: dict[str, Any] | None = None,
        gpus: int = 0,
        files: tuple[str, ...] = (),
    ) -> list[str]:
        config = text_format.Parse(SOUND, model_config_pb2.ModelConfig())
        facts = Facts("m", Host(4, gpus), {**MANIFEST, **(manifest or {})}, frozenset(files))
        assert lint_config(config, Facts("m", Host(4, 0), MANIFEST)) == []
        change(config)
        return [finding.rule for finding in lint_config(config, facts)]

    return rules
