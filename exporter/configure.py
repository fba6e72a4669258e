"""The model's Triton configuration, as Triton's own protobuf message."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tritonclient.grpc import model_config_pb2

from exfm.features.schema import Schema
from exfm.features.signature import OWNER, PROBABILITY, UNKNOWN, BlockKind, tensors_of
from exporter.profile import Latency

Former = Literal["frontend", "triton"]
"""Who forms batches: the frontend sends them whole, or Triton's dynamic batcher joins requests."""
FRONTEND: Former = "frontend"
TRITON: Former = "triton"
FORMERS: tuple[Former, ...] = (FRONTEND, TRITON)
SCHEMA_HASH = "schema_hash"
ENGINE = "engine"
PRIORITIES = 3
"""One level for each of `serving.admission.priority.Priority`; Triton counts from 1, its default, which goes first."""
UNMEASURED_QUEUE = 128
LEAST_INSTANCES, MOST_INSTANCES = 3, 17
"""Of a model on one machine, unless somebody says otherwise; see `instances_for`."""
WARM_UPS = 1
"""Triton's runs per bucket and instance before the version is ready; the runner has scored golden requests before."""
_TYPICAL = 100
"""Candidates of the request by which the queue is sized: a small one, for the queue counts requests."""
_TYPES: dict[BlockKind, int] = {"ids": model_config_pb2.TYPE_INT64, "numbers": model_config_pb2.TYPE_FP32}


@dataclass(frozen=True)
class Batching:
    """How requests become batches.

    Attributes:
        max_requests: the most requests in one run of the graph.
        max_queue: the most calls that wait in Triton; more are refused at once. None: as many as fit into the budget.
        instances: copies of the model, each a process with one thread and the weights in its own memory; a frontend
            that forms batches has one call fewer outstanding.
        by: who forms them. Earliest deadline first in the frontend wins goodput under overload
            (docs/decisions/0008-batch-formation.md).

    With a queue timeout Triton can miss a request that arrives just as its last busy instance ends another one: its
    batcher then sleeps until the next arrival, or half a second. Of bursts of 16 requests 65 % stalled with one
    instance, 0.2 % with two, none of 1,600 with three, hence the default. A delay for fuller batches is not offered:
    together with a queue timeout it makes Triton lose count of its idle instances, and throughput decays until the
    model is loaded anew (server issue 8870).
    """

    max_requests: int = 8
    max_queue: int | None = None
    instances: int = LEAST_INSTANCES
    by: Former = FRONTEND

    def to_dict(self) -> dict[str, Any]:
        """What the manifest tells the frontend."""
        return {"by": self.by, "max_requests": self.max_requests, "instances": self.instances}


DEFAULT_BATCHING = Batching()


def instances_for(cores: int) -> int:
    """How many copies of a model keep so many cores busy, each being a process with one thread.

    One per core, and one more that stays free, for a frontend has one call fewer outstanding than there are copies.
    Never fewer than three, for the stalls that `Batching` speaks of (docs/decisions/0005), and no more than 17 unasked:
    each holds its own weights, and they are loaded one after the other; the cores beyond are for the frontends and for
    other verticals.
    """
    return min(max(cores + 1, LEAST_INSTANCES), MOST_INSTANCES)


def model_config(
    schema: Schema,
    version: int,
    batching: Batching,
    *,
    engine: str = "",
    profile: Mapping[int, Latency] | None = None,
) -> Any:
    """The `ModelConfig` message of the one vertical that `schema` holds, pinned to `version`.

    The queue's default timeout is the vertical's whole budget: Triton takes a request's own, shorter timeout only if
    the default is not zero. A model whose batches come formed has no batch dimension; its calls wait in a queue with
    the same timers all the same, which Triton keeps for a dynamic batcher of single calls.

    Args:
        schema: the vertical's own.
        version: the one to serve.
        batching: how requests become batches.
        engine: what runs the version, for people to read.
        profile: its latency by number of candidates; gives the queue's size and the warm-ups.
    """
    (vertical,) = schema.verticals
    together = batching.by == FRONTEND
    config = model_config_pb2.ModelConfig(name=vertical.name, backend="python")
    config.max_batch_size = 0 if together else batching.max_requests
    config.version_policy.specific.versions.append(version)
    for tensor in tensors_of(schema):
        dims, ragged = input_shape(tensor.name, tensor.width, batching.by)
        config.input.add(name=tensor.name, data_type=_TYPES[tensor.kind], dims=dims, allow_ragged_batch=ragged)
    if together:
        config.input.add(name=OWNER, data_type=model_config_pb2.TYPE_INT64, dims=[-1])
    for name, kind, dims in output_shapes(len(schema.tasks), batching.by):
        config.output.add(name=name, data_type=kind, dims=dims)
    config.instance_group.add(count=batching.instances, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)
    set_queue(config.dynamic_batching, vertical.budget_ms, batching, profile or {})
    for size in profile or {}:
        add_warm_up(config, size)
    config.parameters[SCHEMA_HASH].string_value = schema.digest
    if engine:
        config.parameters[ENGINE].string_value = engine
    return config


def input_shape(name: str, width: int, by: Former) -> tuple[list[int], bool]:
    """Dimensions of an input without those that Triton adds, and whether it is ragged: its requests differ in rows."""
    ragged = name.startswith("candidate") and by == TRITON
    return ([-1, width] if ragged or by == FRONTEND else [width]), ragged


def output_shapes(tasks: int, by: Former) -> tuple[tuple[str, int, list[int]], ...]:
    """Name, type and dimensions of each output."""
    unknown = (UNKNOWN, int(model_config_pb2.TYPE_INT32), [-1] if by == FRONTEND else [1])
    return (PROBABILITY, int(model_config_pb2.TYPE_FP32), [-1, tasks]), unknown


def queue_size(budget_ms: float, instances: int, profile: Mapping[int, Latency]) -> int:
    """How many small requests all instances together can answer within the budget; what waits behind them is lost."""
    if not profile:
        return UNMEASURED_QUEUE
    typical = profile[min(profile, key=lambda size: abs(size - _TYPICAL))]
    return max(1, math.ceil(budget_ms / typical.mean_ms) * instances)


def set_queue(batcher: Any, budget_ms: float, batching: Batching, profile: Mapping[int, Latency]) -> None:
    """Priorities, timers and limits of a model's calls in Triton, whatever backend runs it."""
    batcher.priority_levels, batcher.default_priority_level = PRIORITIES, 1
    policy = batcher.default_queue_policy
    policy.timeout_action = model_config_pb2.ModelQueuePolicy.REJECT
    policy.default_timeout_microseconds = round(budget_ms * 1000)
    policy.allow_timeout_override = True
    policy.max_queue_size = batching.max_queue or queue_size(budget_ms, batching.instances, profile)


def add_warm_up(config: Any, candidates: int, *, runs: int = WARM_UPS) -> None:
    """Let every instance run a request of that many candidates, all zeros, before the version is ready."""
    # Also without a batch dimension: at 0 Triton passes the sample over, without a word.
    sample = config.model_warmup.add(name=f"{candidates} candidates", batch_size=1, count=runs)
    for tensor in config.input:
        rows = 1 if tensor.name.startswith("request") else candidates
        dims = [rows if dim < 0 else dim for dim in tensor.dims]
        sample.inputs[tensor.name].data_type = tensor.data_type
        sample.inputs[tensor.name].dims.extend(dims)
        sample.inputs[tensor.name].zero_data = True
