import pytest
from tritonclient.grpc import model_config_pb2

from exfm.features.schema import Schema
from exporter.configure import FORMERS, TRITON, WARM_UPS, Batching, Former, instances_for, model_config, queue_size
from exporter.profile import Latency

PROFILE = {1: Latency(0.2, 0.3, 0.2), 100: Latency(1.0, 2.0, 1.2), 500: Latency(4.0, 5.0, 4.0)}


@pytest.mark.parametrize("by", FORMERS)
def test_the_queue_has_a_timeout_that_requests_may_shorten(own: Schema, by: Former) -> None:
    policy = model_config(own, 3, Batching(by=by)).dynamic_batching.default_queue_policy
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert policy.default_timeout_microseconds == 250_000
    assert policy.allow_timeout_override


def test_the_queue_holds_what_fits_into_the_budget() -> None:
    assert queue_size(25.0, 3, PROFILE) == 21 * 3
    assert queue_size(0.1, 1, PROFILE) == 1
    assert queue_size(25.0, 3, {}) == 128


def test_the_queue_follows_the_profile_unless_it_is_told(own: Schema) -> None:
    def size(batching: Batching) -> int:
        config = model_config(own, 1, batching, profile=PROFILE)
        return int(config.dynamic_batching.default_queue_policy.max_queue_size)

    assert size(Batching()) == 209 * 3
    assert size(Batching(max_queue=9)) == 9


def test_priorities_have_levels_of_which_the_first_is_the_default(own: Schema) -> None:
    batcher = model_config(own, 1, Batching()).dynamic_batching
    assert (batcher.priority_levels, batcher.default_priority_level) == (3, 1)


def test_candidates_are_ragged_and_empty_tensors_left_out(tiny_schema: Schema) -> None:
    config = model_config(tiny_schema.for_vertical("feed_long_view"), 1, Batching(by=TRITON))
    shapes = {entry.name: (list(entry.dims), entry.allow_ragged_batch) for entry in config.input}
    assert shapes == {
        "request_ids": ([3], False),
        "request_numbers": ([2], False),
        "candidate_ids": ([-1, 2], True),
    }
    assert [list(entry.dims) for entry in config.output] == [[-1, 1], [1]]


def test_batches_that_come_formed_have_no_dimension_for_requests_but_an_owner_per_row(tiny_schema: Schema) -> None:
    config = model_config(tiny_schema.for_vertical("feed_long_view"), 1, Batching())
    assert config.max_batch_size == 0
    assert {entry.name: list(entry.dims) for entry in config.input} == {
        "request_ids": [-1, 3],
        "request_numbers": [-1, 2],
        "candidate_ids": [-1, 2],
        "owner": [-1],
    }
    assert not any(entry.allow_ragged_batch for entry in config.input)
    assert [list(entry.dims) for entry in config.output] == [[-1, 1], [-1]]


def test_batching_is_written_down(own: Schema) -> None:
    batching = Batching(4, 9, 3, TRITON)
    config = model_config(own, 7, batching)
    assert batching.to_dict() == {"by": "triton", "max_requests": 4, "instances": 3}
    assert (config.max_batch_size, config.instance_group[0].count) == (4, 3)
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert list(config.version_policy.specific.versions) == [7]


@pytest.mark.parametrize(("by", "request_dims"), [("triton", [4]), ("frontend", [1, 4])])
def test_each_bucket_is_warmed_up(own: Schema, by: Former, request_dims: list[int]) -> None:
    config = model_config(own, 1, Batching(by=by), profile=PROFILE)
    samples = {sample.name: sample for sample in config.model_warmup}
    assert list(samples) == ["1 candidates", "100 candidates", "500 candidates"]
    sample = samples["100 candidates"]
    assert (sample.batch_size, sample.count) == (1, WARM_UPS)
    assert set(sample.inputs) == {entry.name for entry in config.input}
    assert list(sample.inputs["candidate_ids"].dims) == [100, 2]
    assert list(sample.inputs["request_ids"].dims) == request_dims


def test_parameters_say_schema_and_engine(own: Schema) -> None:
    config = model_config(own, 1, Batching(), engine="onnx_rows")
    found = {name: value.string_value for name, value in config.parameters.items()}
    assert found == {"schema_hash": own.digest, "engine": "onnx_rows"}
    assert set(model_config(own, 1, Batching()).parameters) == {"schema_hash"}


@pytest.mark.parametrize(("cores", "instances"), [(1, 3), (2, 3), (4, 5), (16, 17), (64, 17)])
def test_a_host_is_kept_busy_with_one_copy_free(cores: int, instances: int) -> None:
    assert instances_for(cores) == instances
