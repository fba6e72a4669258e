"""Each rule speaks when its one thing is spoilt, and only then: `spoil` starts from a sound configuration."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

Spoil = Callable[..., list[str]]


def text(body: str) -> Callable[[Any], object]:
    """Merge this text into the message."""
    return lambda config: text_format.Merge(body, config)


def policy(**values: Any) -> Callable[[Any], object]:
    def change(config: Any) -> None:
        for name, value in values.items():
            setattr(config.dynamic_batching.default_queue_policy, name, value)

    return change


def clear(name: str) -> Callable[[Any], object]:
    return lambda config: config.ClearField(name)


QUEUE = {
    "queue-timeout-zero": policy(default_timeout_microseconds=0),
    "queue-timeout-beyond-budget": policy(default_timeout_microseconds=25_001),
    "timeout-override-off": policy(allow_timeout_override=False),
    "queue-unbounded": policy(max_queue_size=0),
    "late-requests-kept": policy(timeout_action=pb.ModelQueuePolicy.DELAY),
    "batch-delay-with-timeouts": text("dynamic_batching { max_queue_delay_microseconds: 1 }"),
    "order-preserved": text("dynamic_batching { preserve_ordering: true }"),
    "preferred-batch-size": text("dynamic_batching { preferred_batch_size: 4 }"),
    "preferred-beyond-max": text("dynamic_batching { preferred_batch_size: 9 }"),
    "no-batches": lambda config: setattr(config, "max_batch_size", 0),
    "priority-default": text("dynamic_batching { default_priority_level: 4 }"),
    "priority-unknown": text(
        "dynamic_batching { priority_queue_policy { key: 4 value { "
        "default_timeout_microseconds: 9 allow_timeout_override: true max_queue_size: 9 } } }"
    ),
    "priorities-missing": text("dynamic_batching { priority_levels: 1 }"),
    "few-instances": lambda config: setattr(config.instance_group[0], "count", 2),
    "no-dynamic-batching": clear("dynamic_batching"),
}
MODEL = {
    "name": lambda config: setattr(config, "name", "other"),
    "version-not-pinned": text("version_policy { latest { num_versions: 1 } }"),
    "schema-hash-missing": lambda config: config.parameters.pop("schema_hash"),
    "schema-hash-differs": lambda config: setattr(config.parameters["schema_hash"], "string_value", "abd"),
    "tensors": lambda config: config.input[0].dims.__setitem__(1, 3),
    "metric-buckets": clear("model_metrics"),
}
BACKEND = {
    "instances-unsaid": clear("instance_group"),
    "gpu-missing": lambda config: setattr(config.instance_group[0], "kind", pb.ModelInstanceGroup.KIND_GPU),
    "rate-limiter": text('instance_group { rate_limiter { resources { name: "r" count: 1 } } }'),
    "sequence-batching": text("sequence_batching {}"),
    "decoupled": text("model_transaction_policy { decoupled: true }"),
    "response-cache": text("response_cache { enable: true }"),
    "agents": text('model_repository_agents { agents { name: "checksum" } }'),
    "cuda-graphs-elsewhere": text("optimization { cuda { graphs: true } }"),
    "warm-up-passed-over": text('model_warmup { name: "w" count: 3 }'),
    "graph-lower-bound": text(
        "optimization { cuda { graph_spec { batch_size: 4 graph_lower_bound { batch_size: 1 } } } }"
    ),
    "engine-not-cached": text(
        'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }'
    ),
}


@pytest.mark.parametrize(("rule", "change"), [*QUEUE.items(), *MODEL.items(), *BACKEND.items()])
def test_a_rule_speaks_of_its_own_matter(spoil: Spoil, rule: str, change: Callable[[Any], object]) -> None:
    found = spoil(change)
    assert rule in found
    # Some mistakes are two at once: without a batcher there are no queues, a lower bound is also a CUDA graph.
    assert set(found) - {rule} <= {"cuda-graphs-elsewhere", "no-dynamic-batching"}


FRONTEND = {"batching": {"by": "frontend"}}


def jagged(config: Any) -> None:
    """The sound configuration in the form that takes batches whole."""
    config.max_batch_size = 0
    config.input[0].allow_ragged_batch = False
    config.input.add(name="owner", data_type=pb.TYPE_INT64, dims=[-1])
    config.output[1].dims[:] = [-1]


def test_batches_are_formed_where_the_version_was_made_for(spoil: Spoil) -> None:
    assert spoil(jagged, FRONTEND) == []
    assert set(spoil(jagged)) == {"no-batches", "tensors"}
    assert set(spoil(lambda _: None, FRONTEND)) == {"batched-twice", "tensors"}
    assert spoil(jagged, {"batching": {"by": "frontend", "more": 1}}) == []
    assert "no-batches" in spoil(jagged, {"batching": "frontend"})


@pytest.mark.parametrize("tensor", ["input", "output"])
@pytest.mark.parametrize("change", ["data_type", "missing", "strange"])
def test_tensors_are_those_of_the_schema(spoil: Spoil, tensor: str, change: str) -> None:
    def spoilt(config: Any) -> None:
        entries = getattr(config, tensor)
        if change == "data_type":
            entries[0].data_type = pb.TYPE_FP64
        elif change == "missing":
            del entries[0]
        else:
            entries.add(name="strange", data_type=pb.TYPE_FP32, dims=[1])

    assert spoil(spoilt) == ["tensors"]


def test_the_lowest_of_several_levels_may_keep_what_is_late(spoil: Spoil) -> None:
    levels = "dynamic_batching { priority_queue_policy { key: %d value { "
    rest = "timeout_action: DELAY default_timeout_microseconds: 9 allow_timeout_override: true max_queue_size: 9 } } }"
    assert spoil(text(levels % 3 + rest)) == []
    assert spoil(text(levels % 1 + rest)) == ["late-requests-kept"]
    assert "priority-unknown" in spoil(text(levels % 4 + rest))


def test_a_batch_delay_without_timeouts_is_only_long(spoil: Spoil) -> None:
    def change(config: Any) -> None:
        policy(default_timeout_microseconds=0)(config)
        config.dynamic_batching.max_queue_delay_microseconds = 301

    assert spoil(change) == ["queue-timeout-zero", "batch-delay-long"]


def test_gpus_that_are_there_are_fine(spoil: Spoil) -> None:
    def change(config: Any) -> None:
        group = config.instance_group[0]
        group.kind, group.count = pb.ModelInstanceGroup.KIND_GPU, 1
        group.gpus[:] = [0, 1, 2]

    assert spoil(change, gpus=3) == []
    assert spoil(change, gpus=2) == ["gpu-missing"]


def test_onnx_runtimes_pitfalls(spoil: Spoil) -> None:
    def change(config: Any, threads: str = "") -> None:
        config.backend = "onnxruntime"
        if threads:
            config.parameters["intra_op_thread_count"].string_value = threads

    assert spoil(change) == ["threads-unsaid", "ragged-without-seams", "no-warm-up"]
    assert "threads-oversubscribed" in spoil(lambda config: change(config, "2"))
    assert spoil(lambda config: change(config, "1")) == ["ragged-without-seams", "no-warm-up"]
    assert "model-file-missing" in spoil(change, files=("model.py",))
    assert "model-file-missing" not in spoil(change, files=("model.onnx",))


def test_tensorrt_and_pytorch(spoil: Spoil) -> None:
    assert "tensorrt-on-cpu" in spoil(lambda config: setattr(config, "backend", "tensorrt"))
    assert "torchscript-optimises" in spoil(lambda config: setattr(config, "backend", "pytorch"))


def test_an_ensemble_is_warned_of(spoil: Spoil) -> None:
    def change(config: Any) -> None:
        config.ClearField("dynamic_batching")
        config.ensemble_scheduling.SetInParent()

    assert spoil(change) == ["ensemble"]


def test_a_model_slower_than_its_budget_is_said(spoil: Spoil) -> None:
    slow = {"profile": {"buckets": {"200": {"p99_ms": 3.0}, "1000": {"p99_ms": 26.0}}}}
    assert spoil(lambda _: None, slow) == ["slower-than-budget"]
