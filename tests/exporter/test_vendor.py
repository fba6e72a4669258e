from dataclasses import replace

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from exfm.features.schema import HistorySpec, Schema
from exporter.configure import Batching, model_config
from exporter.lint.check import lint_config
from exporter.lint.facts import Facts, Host
from exporter.vendor import Backend, tensorrt_command, vendor_config
from serving.admission.priority import Priority


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt"])
def test_it_is_a_configuration_with_the_graphs_tensors(backend: Backend, own: Schema) -> None:
    config = vendor_config(own, 4, backend)
    assert (config.name, config.backend, config.max_batch_size) == ("feed_click_graph", backend, 0)
    assert [(entry.name, list(entry.dims)) for entry in config.input] == [
        ("request_rows", [-1, 6]),
        ("candidate_rows", [-1, 3]),
        ("owner", [-1]),
    ]
    assert list(config.version_policy.specific.versions) == [4]
    assert config.parameters["schema_hash"].string_value == own.digest
    assert config.dynamic_batching.default_queue_policy.default_timeout_microseconds == 250_000


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt"])
def test_requests_wait_as_those_of_the_frontend_do(backend: Backend, own: Schema) -> None:
    """Priorities among it, and so they stand in the text that Triton reads."""
    written = text_format.MessageToString(vendor_config(own, 1, backend, Batching(max_queue=9)))
    read = text_format.Parse(written, model_config_pb2.ModelConfig()).dynamic_batching
    assert (read.priority_levels, read.default_priority_level) == (len(Priority), 1)
    assert read == model_config(own, 1, Batching(max_queue=9)).dynamic_batching


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt"])
def test_the_linter_misses_priorities(backend: Backend, own: Schema) -> None:
    config, facts = vendor_config(own, 1, backend), Facts("feed_click_graph", Host(4, gpus=1))
    before = {finding.rule for finding in lint_config(config, facts)}
    assert not {rule for rule in before if rule.startswith("priorit")}
    config.dynamic_batching.ClearField("priority_levels")
    config.dynamic_batching.ClearField("default_priority_level")
    assert {finding.rule for finding in lint_config(config, facts)} - before == {"priorities-missing"}


def test_latency_is_counted_around_the_budget(own: Schema) -> None:
    (control,) = vendor_config(own, 1, "onnxruntime").model_metrics.metric_control
    assert 250.0 in control.histogram_options.buckets


def test_sizes_are_warmed_up_and_recorded(own: Schema) -> None:
    config = vendor_config(own, 1, "tensorrt", buckets=(1, 50))
    assert [sample.name for sample in config.model_warmup] == ["1 candidates", "50 candidates"]
    assert {sample.batch_size for sample in config.model_warmup} == {1}
    assert config.optimization.cuda.graphs
    assert [list(spec.input["request_rows"].dim) for spec in config.optimization.cuda.graph_spec] == [[1, 6], [1, 6]]
    assert [list(spec.input["candidate_rows"].dim) for spec in config.optimization.cuda.graph_spec] == [[1, 3], [50, 3]]


def test_one_profile_of_tensorrt_spans_all_sizes(own: Schema) -> None:
    command = tensorrt_command(own)
    assert "--minShapes=request_rows:1x6,candidate_rows:1x3,owner:1" in command
    assert "--maxShapes=request_rows:8x6,candidate_rows:500x3,owner:500" in command
    assert "--optShapes=request_rows:1x6,candidate_rows:200x3,owner:200" in command


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt"])
def test_a_history_comes_once_per_request(backend: Backend, own: Schema) -> None:
    history = HistorySpec(length=4, dimension=3, delay_ms=0)
    schema = replace(own, history=history)
    config = vendor_config(schema, 1, backend, buckets=(50,))
    assert config.input[-1].name == "request_history"
    assert list(config.input[-1].dims) == [-1, history.width]
    assert list(config.model_warmup[0].inputs["request_history"].dims) == [1, history.width]
    assert [list(spec.input["request_history"].dim) for spec in config.optimization.cuda.graph_spec] == (
        [[1, history.width]] if backend == "tensorrt" else []
    )
    assert f",request_history:8x{history.width}" in " ".join(tensorrt_command(schema))
