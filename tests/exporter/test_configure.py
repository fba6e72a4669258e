from tritonclient.grpc import model_config_pb2

from exfm.features.schema import Schema
from exporter.configure import Batching, model_config


def test_the_queue_has_a_timeout_that_requests_may_shorten(tiny_schema: Schema) -> None:
    policy = model_config(tiny_schema.for_vertical("feed_click"), 3, Batching()).dynamic_batching.default_queue_policy
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert policy.default_timeout_microseconds == 250_000
    assert policy.allow_timeout_override
    assert policy.max_queue_size == 128


def test_candidates_are_ragged_and_empty_tensors_left_out(tiny_schema: Schema) -> None:
    config = model_config(tiny_schema.for_vertical("feed_long_view"), 1, Batching())
    shapes = {entry.name: (list(entry.dims), entry.allow_ragged_batch) for entry in config.input}
    assert shapes == {
        "request_ids": ([3], False),
        "request_numbers": ([2], False),
        "candidate_ids": ([-1, 2], True),
    }
    assert [list(entry.dims) for entry in config.output] == [[-1, 1], [1]]


def test_batching_is_written_down(tiny_schema: Schema) -> None:
    config = model_config(tiny_schema.for_vertical("feed_click"), 7, Batching(4, 9, 3))
    assert (config.max_batch_size, config.instance_group[0].count) == (4, 3)
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 9
    assert list(config.version_policy.specific.versions) == [7]
