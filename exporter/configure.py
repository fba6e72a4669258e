"""The model's Triton configuration, as Triton's own protobuf message."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from exfm.features.schema import Schema
from exfm.features.signature import PROBABILITY, UNKNOWN, BlockKind, tensors_of
from exporter.durable import write_durably

SCHEMA_HASH = "schema_hash"
_TYPES: dict[BlockKind, int] = {"ids": model_config_pb2.TYPE_INT64, "numbers": model_config_pb2.TYPE_FP32}


@dataclass(frozen=True)
class Batching:
    """How Triton forms batches of requests.

    Attributes:
        max_requests: the most requests in one run of the graph.
        max_queue: the most requests that wait; more are refused at once.
        instances: copies of the model, each a process with one thread and the weights in its own memory.

    With a queue timeout Triton can miss a request that arrives just as its last busy instance ends another one: its
    batcher then sleeps until the next arrival, or half a second. Of bursts of 16 requests 65 % stalled with one
    instance, 0.2 % with two, none of 1,600 with three, hence the default. A delay for fuller batches is not offered:
    together with a queue timeout it makes Triton lose count of its idle instances, and throughput decays until the
    model is loaded anew (server issue 8870).
    """

    max_requests: int = 8
    max_queue: int = 128
    instances: int = 3


DEFAULT_BATCHING = Batching()


def model_config(schema: Schema, version: int, batching: Batching) -> Any:
    """The `ModelConfig` message of the one vertical that `schema` holds, pinned to `version`.

    The queue's default timeout is the vertical's whole budget: Triton takes a request's own, shorter timeout only if
    the default is not zero.
    """
    (vertical,) = schema.verticals
    config = model_config_pb2.ModelConfig(name=vertical.name, backend="python", max_batch_size=batching.max_requests)
    config.version_policy.specific.versions.append(version)
    for tensor in tensors_of(schema):
        ragged = tensor.name.startswith("candidate")
        dims = [-1, tensor.width] if ragged else [tensor.width]
        config.input.add(name=tensor.name, data_type=_TYPES[tensor.kind], dims=dims, allow_ragged_batch=ragged)
    config.output.add(name=PROBABILITY, data_type=model_config_pb2.TYPE_FP32, dims=[-1, len(schema.tasks)])
    config.output.add(name=UNKNOWN, data_type=model_config_pb2.TYPE_INT32, dims=[1])
    config.instance_group.add(count=batching.instances, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)
    policy = config.dynamic_batching.default_queue_policy
    policy.timeout_action = model_config_pb2.ModelQueuePolicy.REJECT
    policy.default_timeout_microseconds = round(vertical.budget_ms * 1000)
    policy.allow_timeout_override = True
    policy.max_queue_size = batching.max_queue
    config.parameters[SCHEMA_HASH].string_value = schema.digest
    return config


def write_config(path: Path, config: Any) -> None:
    """Put the configuration in place at once: a reader sees the old file or the new one."""
    write_durably(path, text_format.MessageToString(config).encode())
