"""Scores out of a real Triton against torch's, for published models."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
from numpy.typing import NDArray

from exfm.features.schema import Schema
from exfm.features.signature import OWNER, PROBABILITY
from exfm.models.checkpoint import load_checkpoint
from exporter.engines.requests import random_request
from exporter.export import export
from exporter.golden import encode_request
from exporter.options import ExportOptions
from exporter.trace import ServedStudent
from exporter.verify import torch_probability
from serving.embedded.environment import ensure
from serving.embedded.process import EmbeddedTriton

SIZES = (1, 7, 64, 200, 1000)
_DATATYPES = {"int64": "INT64", "float32": "FP32"}


def measure(
    checkpoints: Mapping[str, Path], engines: Sequence[str], out: Path, report: Callable[[str], None]
) -> dict[str, float]:
    """By engine the largest difference of a probability over all verticals and sizes, absolute."""
    return {engine: _measure(checkpoints, engine, out / f"parity-{engine}", report) for engine in engines}


def _measure(checkpoints: Mapping[str, Path], engine: str, folder: Path, report: Callable[[str], None]) -> float:
    shutil.rmtree(folder, ignore_errors=True)  # another log's students would be held against those of the last run
    repository = folder / "model_repository"
    for path in checkpoints.values():
        export(path, repository, ExportOptions(engines=(engine,), buckets=(1, 200)), lambda _: None)
    report(f"parity of {engine} through Triton")
    with EmbeddedTriton(ensure(), repository, tuple(checkpoints), folder / "triton.log") as triton:
        client = triton_grpc.InferenceServerClient(triton.address)
        return max(_largest(client, name, path) for name, path in checkpoints.items())


def _largest(client: Any, vertical: str, path: Path) -> float:
    checkpoint = load_checkpoint(path)
    served = ServedStudent(checkpoint.build_student()).eval()
    worst = 0.0
    for seed, size in enumerate(SIZES):
        request = random_request(checkpoint.schema, min(size, _most(checkpoint.schema)), seed)
        exact = torch_probability(served, encode_request(checkpoint.schema, request))
        worst = max(worst, float(np.abs(_ask(client, vertical, request) - exact).max()))
    return worst


def _ask(client: Any, vertical: str, request: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    candidates = next(len(value) for name, value in request.items() if name.startswith("candidate"))
    inputs = []
    for name, value in {**request, OWNER: np.zeros(candidates, np.int64)}.items():
        tensor = triton_grpc.InferInput(name, value.shape, _DATATYPES[value.dtype.name])
        tensor.set_data_from_numpy(value)
        inputs.append(tensor)
    probability: NDArray[np.float32] = client.infer(vertical, inputs).as_numpy(PROBABILITY)
    return probability


def _most(schema: Schema) -> int:
    return max(vertical.max_candidates for vertical in schema.verticals)
