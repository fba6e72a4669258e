"""Where and how the model runs: instances, threads, devices, the backends' own pitfalls."""

from collections.abc import Iterator
from typing import Any

from tritonclient.grpc import model_config_pb2

from exporter.lint.facts import Facts
from exporter.lint.finding import Finding

_GROUP = model_config_pb2.ModelInstanceGroup
_SHAPE_BOUND = ("tensorrt", "pytorch", "onnxruntime")
"""Backends that do work for each new shape when they first meet it."""
_INTRA, _INTER = "intra_op_thread_count", "inter_op_thread_count"


def backend_of(config: Any) -> str:
    """The backend's name; older configurations say it as a platform."""
    platforms = {"onnxruntime_onnx": "onnxruntime", "tensorrt_plan": "tensorrt", "pytorch_libtorch": "pytorch"}
    return str(config.backend or platforms.get(config.platform, ""))


def instances(config: Any, facts: Facts) -> Iterator[Finding]:
    """Copies of the model, and the devices that they need."""
    if not config.instance_group and not config.HasField("ensemble_scheduling"):
        yield Finding(
            "instances-unsaid",
            "warning",
            "instance_group is missing",
            "Triton takes one copy per GPU, or a single one on the CPU",
            "instance_group { count: 3 kind: KIND_CPU }",
        )
    for group in config.instance_group:
        beyond = [gpu for gpu in group.gpus if gpu >= facts.host.gpus]
        if (group.kind == _GROUP.KIND_GPU and not facts.host.gpus) or beyond:
            which = f"GPU {beyond[0]}" if beyond else "a GPU"
            yield Finding(
                "gpu-missing",
                "error",
                f"instance_group asks for {which}, this machine has {facts.host.gpus}",
                "Triton does not load the model",
                "kind: KIND_CPU, or --gpus N if it serves elsewhere",
            )
        if group.kind == _GROUP.KIND_CPU and backend_of(config) == "tensorrt":
            yield Finding(
                "tensorrt-on-cpu",
                "error",
                "backend tensorrt with kind KIND_CPU",
                "Triton does not load the model",
                "kind: KIND_GPU",
            )
        if group.rate_limiter.resources:
            yield Finding(
                "rate-limiter",
                "warning",
                "instance_group has rate limiter resources",
                "a request that waits for them no longer notices that it was cancelled or is too late",
                "no rate_limiter for models on the request path",
            )


def threads(config: Any, facts: Facts) -> Iterator[Finding]:
    """ONNX Runtime takes every core for each session unless it is told otherwise."""
    if backend_of(config) != "onnxruntime" or any(group.kind == _GROUP.KIND_GPU for group in config.instance_group):
        return
    text = config.parameters[_INTRA].string_value if _INTRA in config.parameters else ""
    each = int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0
    count = sum(max(1, group.count) for group in config.instance_group)
    if not each:
        yield Finding(
            "threads-unsaid",
            "error",
            f"{_INTRA} is not set",
            "each instance takes all cores; several of them fight over the machine, and p99 suffers first",
            f'parameters {{ key: "{_INTRA}" value {{ string_value: "1" }} }}, the same for {_INTER}',
        )
    elif each * count > facts.host.cores:
        yield Finding(
            "threads-oversubscribed",
            "warning",
            f"{count} instances of {each} threads on {facts.host.cores} cores",
            "instances wait for one another's time slices",
            f"{_INTRA}: {max(1, facts.host.cores // count)}",
        )


def ragged(config: Any, _: Facts) -> Iterator[Finding]:
    """Only the Python backend sees requests one by one; others get one tensor and must be told its seams."""
    if backend_of(config) in _SHAPE_BOUND and not config.batch_input:
        for entry in config.input:
            if entry.allow_ragged_batch:
                yield Finding(
                    "ragged-without-seams",
                    "error",
                    f"input {entry.name!r} is ragged, and there is no batch_input",
                    "the model cannot tell one request's candidates from the next one's",
                    "batch_input { kind: BATCH_ACCUMULATED_ELEMENT_COUNT ... }, or max_batch_size: 1",
                )
                return


def warm_up(config: Any, _: Facts) -> Iterator[Finding]:
    """First requests of a shape."""
    if backend_of(config) in _SHAPE_BOUND and not config.model_warmup:
        yield Finding(
            "no-warm-up",
            "warning",
            "model_warmup is missing",
            "the first request of each new number of candidates waits while the backend prepares for it, seconds at "
            "worst (server issue 7776)",
            "one model_warmup per bucket of candidates, count: 10",
        )
    for sample in config.model_warmup:
        if sample.batch_size < 1:
            yield Finding(
                "warm-up-passed-over",
                "warning",
                f"model_warmup {sample.name!r} has batch_size {sample.batch_size}",
                "Triton passes the sample over, without a word, and the first request of its size pays",
                "batch_size: 1, also without a batch dimension",
            )


def pytorch(config: Any, _: Facts) -> Iterator[Finding]:
    """TorchScript optimises anew at the first calls of a shape."""
    key = "DISABLE_OPTIMIZED_EXECUTION"
    if backend_of(config) == "pytorch" and config.parameters[key].string_value != "true":
        yield Finding(
            "torchscript-optimises",
            "warning",
            f"{key} is not set",
            "the first calls of each shape stall while TorchScript optimises",
            f'parameters {{ key: "{key}" value {{ string_value: "true" }} }}',
        )


def accelerators(config: Any, _: Facts) -> Iterator[Finding]:
    """TensorRT inside ONNX Runtime, and CUDA graphs."""
    for entry in config.optimization.execution_accelerators.gpu_execution_accelerator:
        if entry.name == "tensorrt" and "trt_engine_cache_enable" not in entry.parameters:
            yield Finding(
                "engine-not-cached",
                "error",
                "the TensorRT accelerator has no trt_engine_cache_enable",
                "a new shape builds an engine on the request's own time, seconds to minutes",
                "trt_engine_cache_enable, trt_engine_cache_path and trt_profile_{min,opt,max}_shapes",
            )
    cuda = config.optimization.cuda
    if backend_of(config) != "tensorrt" and (cuda.graphs or cuda.graph_spec):
        yield Finding(
            "cuda-graphs-elsewhere",
            "warning",
            "optimization.cuda.graphs is set",
            "only the TensorRT backend looks at it",
            "leave it out",
        )
    if any(spec.HasField("graph_lower_bound") for spec in cuda.graph_spec):
        yield Finding(
            "graph-lower-bound",
            "warning",
            "graph_spec has a graph_lower_bound",
            "smaller batches run in a larger one's graph, over padding that nobody has filled",
            "one graph_spec per bucket",
        )


RULES = (instances, threads, ragged, warm_up, pytorch, accelerators)
