"""How requests wait: Triton's dynamic batcher and its queue policies."""

from collections.abc import Iterator
from typing import Any

from tritonclient.grpc import model_config_pb2

from exfm.features.signature import OWNER
from exporter.configure import FRONTEND, PRIORITIES, TRITON
from exporter.lint.facts import Facts
from exporter.lint.finding import Finding

LONG_DELAY_US = 300
"""A longer wait for a fuller batch is felt: it comes out of the budget of the batch's first request."""
FEW_INSTANCES = 2
_DELAY = model_config_pb2.ModelQueuePolicy.DELAY


def no_batcher(config: Any, _: Facts) -> Iterator[Finding]:
    """Without a dynamic batcher there are no queue timers and no limits."""
    if not config.HasField("dynamic_batching") and not config.HasField("ensemble_scheduling"):
        yield Finding(
            "no-dynamic-batching",
            "error",
            "dynamic_batching is missing",
            "requests queue without a timer and without a limit; a request's timeout is ignored",
            "dynamic_batching { default_queue_policy { ... } }",
        )


def queue_policies(config: Any, facts: Facts) -> Iterator[Finding]:
    """Timers and limits of the default queue and of each priority's own."""
    if not config.HasField("dynamic_batching"):
        return
    batching = config.dynamic_batching
    policies = {"default_queue_policy": batching.default_queue_policy}
    for level, policy in sorted(batching.priority_queue_policy.items()):
        policies[f"priority_queue_policy {level}"] = policy
    lowest = f"priority_queue_policy {batching.priority_levels}"
    for name, policy in policies.items():
        yield from _timeouts(name, policy, facts)
        yield from _limit(name, policy)
        # A level for work that nobody waits for may well delay what is late.
        if policy.timeout_action == _DELAY and not (name == lowest and batching.priority_levels > 1):
            yield Finding(
                "late-requests-kept",
                "warning",
                f"{name}: timeout_action is DELAY",
                "a request that is too late is kept and scored when nobody waits for it any more",
                "timeout_action: REJECT",
            )


def _timeouts(name: str, policy: Any, facts: Facts) -> Iterator[Finding]:
    default_us = policy.default_timeout_microseconds
    if not default_us:
        override = "allow_timeout_override is set but does nothing: " if policy.allow_timeout_override else ""
        yield Finding(
            "queue-timeout-zero",
            "error",
            f"{name}: default_timeout_microseconds is 0",
            f"{override}Triton takes a request's own timeout only if it is shorter than the default, and 0 means none, "
            "so whatever waits is scored, however late",
            "default_timeout_microseconds: the whole budget",
        )
    elif facts.budget_us is not None and default_us > facts.budget_us:
        yield Finding(
            "queue-timeout-beyond-budget",
            "warning",
            f"{name}: default_timeout_microseconds is {default_us}, the budget {facts.budget_us:.0f}",
            "requests wait for a place longer than anybody waits for their answers",
            f"default_timeout_microseconds: {facts.budget_us:.0f}",
        )
    if default_us and not policy.allow_timeout_override:
        yield Finding(
            "timeout-override-off",
            "warning",
            f"{name}: allow_timeout_override is off",
            "what is left of a request's budget cannot shorten its wait",
            "allow_timeout_override: true",
        )


def _limit(name: str, policy: Any) -> Iterator[Finding]:
    if not policy.max_queue_size:
        yield Finding(
            "queue-unbounded",
            "error",
            f"{name}: max_queue_size is 0",
            "the queue has no end: under overload every request waits until its timer runs out, and memory grows",
            "max_queue_size: about budget / time per request x instances",
        )


def batch_delay(config: Any, _: Facts) -> Iterator[Finding]:
    """Waiting for fuller batches."""
    batching = config.dynamic_batching
    delay_us = batching.max_queue_delay_microseconds
    if delay_us and batching.default_queue_policy.default_timeout_microseconds:
        yield Finding(
            "batch-delay-with-timeouts",
            "error",
            f"max_queue_delay_microseconds is {delay_us}, and the queue has a timeout",
            "together they make Triton lose count of its idle instances, and throughput decays until the model is "
            "loaded anew (server issue 8870)",
            "max_queue_delay_microseconds: 0; batches fill by themselves under load",
        )
    elif delay_us > LONG_DELAY_US:
        yield Finding(
            "batch-delay-long",
            "warning",
            f"max_queue_delay_microseconds is {delay_us}",
            "each microsecond is taken from the budget of the batch's first request",
            f"max_queue_delay_microseconds: 0, at most {LONG_DELAY_US}",
        )


def batch_shape(config: Any, facts: Facts) -> Iterator[Finding]:
    """Batch sizes and the order of answers."""
    batching = config.dynamic_batching
    if batching.preserve_ordering:
        yield Finding(
            "order-preserved",
            "warning",
            "preserve_ordering is on",
            "a fast answer waits for a slow one that came before it",
            "preserve_ordering: false",
        )
    yield from _batch_dimension(config, facts)
    too_large = [size for size in batching.preferred_batch_size if size > config.max_batch_size]
    if too_large:
        yield Finding(
            "preferred-beyond-max",
            "error",
            f"preferred_batch_size {too_large[0]} is above max_batch_size {config.max_batch_size}",
            "Triton refuses the model",
            "no preferred_batch_size at all",
        )
    elif batching.preferred_batch_size and "tensorrt" not in (config.backend, config.platform.partition("_")[0]):
        yield Finding(
            "preferred-batch-size",
            "warning",
            "preferred_batch_size is set",
            "it helps only where TensorRT has profiles for just these sizes",
            "leave preferred_batch_size out",
        )


def _batch_dimension(config: Any, facts: Facts) -> Iterator[Finding]:
    """It is Triton's, who then forms the batches; those that come formed have none, and say whose each row is."""
    if config.backend != "python":
        return
    formed = OWNER in (entry.name for entry in config.input) if facts.former is None else facts.former == FRONTEND
    if formed and config.max_batch_size != 0:
        yield Finding(
            "batched-twice",
            "error",
            f"max_batch_size is {config.max_batch_size}, and the frontend forms this version's batches",
            "Triton takes a whole batch for one request, and refuses its tensors",
            "max_batch_size: 0, or publish with --batching triton",
        )
    elif facts.former == TRITON and config.max_batch_size < 1:
        yield Finding(
            "no-batches",
            "error",
            f"max_batch_size is {config.max_batch_size}, and Triton forms this version's batches",
            "requests have a dimension for Triton's batches, which it then takes for data",
            "max_batch_size: 8, or publish with --batching frontend",
        )


def priorities(config: Any, _: Facts) -> Iterator[Finding]:
    """Levels for what callers tell apart, and a level for requests that name none."""
    batching = config.dynamic_batching
    levels, default = batching.priority_levels, batching.default_priority_level
    strange = [level for level in batching.priority_queue_policy if not 1 <= level <= levels]
    if config.HasField("dynamic_batching") and levels <= 1:
        yield Finding(
            "priorities-missing",
            "warning",
            f"priority_levels is {levels}",
            "all requests wait in one queue, so a live one waits behind shadow traffic that nobody waits for",
            f"priority_levels: {PRIORITIES}, default_priority_level: 1",
        )
    if levels and not 1 <= default <= levels:
        yield Finding(
            "priority-default",
            "error",
            f"default_priority_level is {default}, with priority_levels {levels}",
            "Triton refuses the model",
            "default_priority_level: 1",
        )
    if strange or (default and not levels):
        level = min(strange, default=default)
        yield Finding(
            "priority-unknown",
            "error",
            f"level {level} is used, priority_levels is {levels}",
            "Triton refuses the model, or the level's own policy never applies",
            f"priority_levels: {max([*strange, default])}",
        )


def few_instances(config: Any, _: Facts) -> Iterator[Finding]:
    """Triton's batcher can miss the arrival that comes just as its last busy instance ends."""
    count = sum(max(1, group.count) * max(1, len(group.gpus)) for group in config.instance_group)
    timed = config.dynamic_batching.default_queue_policy.default_timeout_microseconds
    if config.instance_group and timed and count <= FEW_INSTANCES:
        yield Finding(
            "few-instances",
            "warning",
            f"{count} instance{'s' if count > 1 else ''}, and the queue has a timeout",
            "now and then a request waits half a second: Triton's batcher sleeps through its arrival",
            "instance_group { count: 3 }",
        )


RULES = (no_batcher, queue_policies, batch_delay, batch_shape, priorities, few_instances)
