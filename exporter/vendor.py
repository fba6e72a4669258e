"""Configuration for Triton's own onnxruntime and TensorRT backends, as NVIDIA's container has them.

`exporter.vendor_export` publishes a model with it.

They run the whole graph, so what reaches them is encoded: rows of the stacked table, as `exfm.features.encoding` makes
them. The Python backend's runner needs none of this; it is for who wants the vendor's backend on a GPU.
"""

from collections.abc import Sequence
from typing import Any, Literal

from tritonclient.grpc import model_config_pb2

from exfm.features.schema import Schema
from exfm.features.signature import CANDIDATE_SIDES, HISTORY, PROBABILITY, REQUEST_SIDES
from exporter.configure import SCHEMA_HASH, Batching, add_warm_up, set_queue
from exporter.metrics import add_budget_edges
from exporter.profile import buckets_for
from exporter.trace import CANDIDATE_ROWS, OWNER, REQUEST_ROWS

Backend = Literal["onnxruntime", "tensorrt"]
BACKENDS: tuple[Backend, ...] = ("onnxruntime", "tensorrt")
SUFFIX = "_graph"
"""Of the model's name, after its vertical's."""
PER_GPU = Batching()
"""Three on each GPU, for the stall is of Triton's batcher, whatever backend runs behind it (docs/decisions/0005)."""
SCRIPT, PLAN, PARTIAL = "trtexec.sh", "model.plan", "model.plan.partial"
_NAMES = {model_config_pb2.TYPE_INT64: "int64", model_config_pb2.TYPE_FP32: "float32"}
WARM_UPS = 10
"""Runs per size: no runner has scored anything before, and a GPU's libraries try several kernels."""


def vendor_config(
    schema: Schema,
    version: int,
    backend: Backend,
    batching: Batching = PER_GPU,
    buckets: Sequence[int] = (),
) -> Any:
    """The `ModelConfig` message of a model `<vertical>_graph` with `model.onnx`, or `model.plan` for TensorRT.

    Batches come formed, as from the frontend: requests [B, w], their candidates joined, `owner` saying whose each is.

    Args:
        schema: the vertical's own.
        version: the one to serve.
        backend: onnxruntime (with its CUDA provider) or tensorrt.
        batching: of it, the instances on each GPU and the queue's size.
        buckets: numbers of candidates to warm up and to record CUDA graphs for; empty: `buckets_for` the vertical.
    """
    (vertical,) = schema.verticals
    sizes = tuple(buckets) or buckets_for(vertical.max_candidates)
    config = model_config_pb2.ModelConfig(name=f"{vertical.name}{SUFFIX}", backend=backend, max_batch_size=0)
    config.version_policy.specific.versions.append(version)
    _set_tensors(config, schema)
    config.instance_group.add(count=batching.instances, kind=model_config_pb2.ModelInstanceGroup.KIND_GPU)
    set_queue(config.dynamic_batching, vertical.budget_ms, batching, {})
    for size in sizes:
        add_warm_up(config, size, runs=WARM_UPS)
    add_budget_edges(config, vertical.budget_ms)
    config.parameters[SCHEMA_HASH].string_value = schema.digest
    {"onnxruntime": _tune_onnxruntime, "tensorrt": _tune_tensorrt}[backend](config, sizes)
    return config


def tensorrt_command(schema: Schema, buckets: Sequence[int] = ()) -> tuple[str, ...]:
    """How to make `model.plan` of `model.onnx` in NVIDIA's container: one optimization profile over all sizes."""
    (vertical,) = schema.verticals
    sizes = tuple(buckets) or buckets_for(vertical.max_candidates)
    request = sum(len(schema.side(side)) for side in REQUEST_SIDES)
    ad = sum(len(schema.side(side)) for side in CANDIDATE_SIDES)

    def shapes(size: int, requests: int = 1) -> str:
        histories = f",{HISTORY}:{requests}x{schema.history.width}" if schema.history else ""
        return f"{REQUEST_ROWS}:{requests}x{request},{CANDIDATE_ROWS}:{size}x{ad},{OWNER}:{size}{histories}"

    usual, most = min(sizes, key=lambda size: abs(size - 200)), shapes(max(sizes), PER_GPU.max_requests)
    bounds = (f"--minShapes={shapes(1)}", f"--optShapes={shapes(usual)}", f"--maxShapes={most}")
    return ("trtexec", "--onnx=model.onnx", f"--saveEngine={PLAN}", *bounds)


def tensorrt_script(schema: Schema) -> str:
    """`tensorrt_command` for the shell, run where the script lies; what reads the folder never sees half a plan."""
    words = " ".join(tensorrt_command(schema)).replace(f"={PLAN}", f"={PARTIAL}")
    return f"""\
#!/bin/sh
# Makes {PLAN}: run it in NVIDIA's container, of the release that will serve, on the kind of GPU that will serve.
set -e
cd "$(dirname "$0")"
{words}
sync {PARTIAL}
mv -f {PARTIAL} {PLAN}
"""


def tensors_in(config: Any) -> dict[str, list[dict[str, Any]]]:
    """Inputs and outputs of a configuration in plain values, as the manifest has them."""

    def plain(entry: Any) -> dict[str, Any]:
        return {"name": entry.name, "dtype": _NAMES[entry.data_type], "dims": list(entry.dims)}

    return {"inputs": [plain(entry) for entry in config.input], "outputs": [plain(entry) for entry in config.output]}


def _set_tensors(config: Any, schema: Schema) -> None:
    request = sum(len(schema.side(side)) for side in REQUEST_SIDES)
    ad = sum(len(schema.side(side)) for side in CANDIDATE_SIDES)
    for name, dims in ((REQUEST_ROWS, [-1, request]), (CANDIDATE_ROWS, [-1, ad]), (OWNER, [-1])):
        config.input.add(name=name, data_type=model_config_pb2.TYPE_INT64, dims=dims)
    if schema.history:
        config.input.add(name=HISTORY, data_type=model_config_pb2.TYPE_FP32, dims=[-1, schema.history.width])
    config.output.add(name=PROBABILITY, data_type=model_config_pb2.TYPE_FP32, dims=[-1, len(schema.tasks)])


def _tune_onnxruntime(config: Any, _: Sequence[int]) -> None:
    config.parameters["intra_op_thread_count"].string_value = "1"
    config.parameters["inter_op_thread_count"].string_value = "1"
    config.optimization.graph.level = 1  # every rewriting of the graph that leaves its results alone


def _tune_tensorrt(config: Any, sizes: Sequence[int]) -> None:
    config.platform = "tensorrt_plan"
    cuda = config.optimization.cuda
    cuda.graphs = cuda.busy_wait_events = True
    shapes = {tensor.name: list(tensor.dims) for tensor in config.input}
    for size in sizes:
        graph = cuda.graph_spec.add(batch_size=0)
        for name, dims in shapes.items():
            rows = 1 if name in (REQUEST_ROWS, HISTORY) else size
            graph.input[name].dim.extend(rows if dim < 0 else dim for dim in dims)
