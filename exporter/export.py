"""Export one student: load, refuse or convert, prove, package, publish."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from exfm.features.signature import DTYPES, PROBABILITY, tensors_of
from exfm.models.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from exporter.configure import DEFAULT_BATCHING, Batching
from exporter.errors import ExportRefusedError
from exporter.golden import encode_request
from exporter.package import publish, staging, write_parts
from exporter.trace import ServedStudent, write_graph
from exporter.verify import (
    PARITY_BOUND,
    check_checkpoint,
    check_parity,
    check_weights,
    random_batch,
    torch_probability,
)

FORMAT = 1
PARITY_SIZES = ([1], [3, 1, 64, 17, 200])
"""Candidates per request of the random batches that parity is held on, besides the golden request."""


@dataclass(frozen=True)
class Published:
    """A version that now lies in the repository.

    Attributes:
        vertical: also the model's name in Triton.
        version: its number.
        path: its folder.
        schema_hash: the schema's digest, as config.pbtxt has it.
        parameters: numbers in the graph's weights.
        parity_max_abs: largest difference to torch over the parity batches, absolute.
    """

    vertical: str
    version: int
    path: Path
    schema_hash: str
    parameters: int
    parity_max_abs: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "path": str(self.path)}


def export(
    checkpoint_path: Path,
    repository: Path,
    batching: Batching = DEFAULT_BATCHING,
    report: Callable[[str], None] = lambda _: None,
) -> Published:
    """Publish the student of `checkpoint_path` as the next version of its vertical in `repository`.

    Args:
        checkpoint_path: what training wrote.
        repository: Triton's model repository; made if it is missing.
        batching: how Triton forms batches of requests.
        report: gets a short text at each step.

    Raises:
        ExportRefusedError: the checkpoint must not be served; nothing was published.
        OSError: the repository cannot be written; nothing was published.
    """
    report("loading the checkpoint")
    checkpoint = _load(checkpoint_path)
    served = _build(checkpoint)
    schema = checkpoint.schema
    with staging(repository) as folder:
        report("converting to ONNX")
        graph = write_graph(served, schema, folder / "model.onnx")
        report("proving weights and parity")
        parameters = check_weights(graph, served)
        golden = encode_request(schema, checkpoint.golden)
        batches = [golden, *(random_batch(schema, sizes) for sizes in PARITY_SIZES)]
        parity = check_parity(folder / "model.onnx", served, batches)
        report("publishing")
        answer = {PROBABILITY: torch_probability(served, golden)}
        write_parts(folder, schema, {"prior": vars(checkpoint.prior), "golden": {**checkpoint.golden, **answer}})
        path = publish(folder, repository, schema, _manifest(checkpoint, parameters, parity), batching)
    return Published(checkpoint.vertical, int(path.name), path, schema.digest, parameters, parity)


def _load(path: Path) -> Checkpoint:
    try:
        checkpoint = load_checkpoint(path)
        check_checkpoint(checkpoint)
    except CheckpointError as error:
        raise ExportRefusedError(str(error)) from error
    except ExportRefusedError as error:
        raise ExportRefusedError(f"{path}: {error}") from error
    return checkpoint


def _build(checkpoint: Checkpoint) -> ServedStudent:
    try:
        return ServedStudent(checkpoint.build_student()).eval()
    except CheckpointError as error:
        raise ExportRefusedError(str(error)) from error


def _manifest(checkpoint: Checkpoint, parameters: int, parity: float) -> Mapping[str, Any]:
    """All of the manifest but the version and the files' hashes."""
    (vertical,) = checkpoint.schema.verticals
    tensors = tensors_of(checkpoint.schema)
    return {
        "format": FORMAT,
        "vertical": checkpoint.vertical,
        "tasks": list(checkpoint.tasks),
        "schema_hash": checkpoint.schema.digest,
        "budget_ms": vertical.budget_ms,
        "max_candidates": vertical.max_candidates,
        "tensors": [{"name": t.name, "dtype": np.dtype(DTYPES[t.kind]).name, "width": t.width} for t in tensors],
        "parameters": parameters,
        "parity": {"max_abs": parity, "bound": PARITY_BOUND},
        "quality": checkpoint.quality,
        "lineage": checkpoint.lineage,
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }
