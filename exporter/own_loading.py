"""From the files of a user's own model (`exporter.own_model`) to what the rest of the export takes."""

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exfm.features.schema import Schema, SchemaError
from exfm.models.checkpoint import Checkpoint, Prior
from exporter.compare import figure_of
from exporter.errors import ExportRefusedError
from exporter.factory import build_model, first_line
from exporter.golden_batch import GoldenBatch
from exporter.own_checks import check_answers, check_module
from exporter.own_model import OwnFiles
from exporter.trace import ServedStudent
from exporter.verify import check_checkpoint

STATED, COMPUTED = "stated by whoever published it", "the golden batch's outcomes"


def load_own(files: OwnFiles) -> tuple[Checkpoint, ServedStudent]:
    """The model as what the rest of the export takes: a checkpoint, and the module as it is served.

    Raises:
        ExportRefusedError: naming the file, and what the protocol asks for instead.
    """
    schema = _schema(files)
    golden = GoldenBatch.load(files.golden, schema)
    module = build_model(files.model, schema)
    state = _state(files.weights)
    try:
        module.load_state_dict(state)
    except Exception as error:  # a hook of the user's may raise anything
        text = " ".join(str(error).split("\n\t")[:2])  # torch lists every tensor
        raise ExportRefusedError(f"weights: {files.weights}: {text}") from error
    checkpoint = Checkpoint(
        kind="student",
        schema=schema,
        tasks=schema.tasks,
        state=module.state_dict(),
        vertical=schema.verticals[0].name,
        backbone="own",
        quality=_quality(files, golden),
        lineage={"model": "own model", "factory": files.model, "weights_sha256": _sha256(files.weights)},
        prior=_prior(files.prior, golden),
        golden=golden.first(),
    )
    check_checkpoint(checkpoint)
    served = ServedStudent(cast(Any, module), own=True).eval()
    check_module(served, schema)
    check_answers(served, golden)
    return checkpoint, served


def _schema(files: OwnFiles) -> Schema:
    try:
        whole = Schema.load(files.schema)
    except (SchemaError, OSError) as error:
        raise ExportRefusedError(f"schema: {error}") from error
    names = [vertical.name for vertical in whole.verticals]
    name = files.vertical or (names[0] if len(names) == 1 else "")
    if name not in names:
        asked = f"has no vertical {name!r}" if name else "has several verticals, --vertical says which"
        raise ExportRefusedError(f"schema: {files.schema}: {asked}: {', '.join(names)}")
    return whole.for_vertical(name)


def _state(path: Path) -> dict[str, Tensor]:
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # junk makes the unpickler raise nearly anything
        raise ExportRefusedError(f"weights: {path}: not readable: {first_line(error)}") from error
    if isinstance(raw, dict) and "kind" in raw and "state" in raw:
        what = "only students are served" if raw["kind"] != "student" else "publish it without --model"
        raise ExportRefusedError(f"weights: {path}: this is a {raw['kind']}'s checkpoint; {what}")
    if not isinstance(raw, dict) or not all(isinstance(value, Tensor) for value in raw.values()):
        raise ExportRefusedError(f"weights: {path}: no state dict; torch.save(module.state_dict(), ...) writes one")
    return {str(name): tensor for name, tensor in raw.items()}


def _quality(files: OwnFiles, golden: GoldenBatch) -> dict[str, Any]:
    made, origin, where = golden.quality(), COMPUTED, f"{files.golden}'s label"
    if files.quality is not None:
        where, origin = str(files.quality), STATED
        try:
            made = json.loads(files.quality.read_text(encoding="utf-8"), parse_constant=_no_number)
            figure_of(made, golden.schema.tasks, "ne")
        except (OSError, ValueError) as error:
            raise ExportRefusedError(f"quality: {files.quality}: {error}") from error
        except (TypeError, AttributeError) as error:
            raise ExportRefusedError(f'quality: {files.quality}: expected {{"ne": ..., "tasks": {{...}}}}') from error
    if not made:
        raise ExportRefusedError("quality: put outcomes into the golden batch as `label`, or state it with --quality")
    tasks = golden.schema.tasks
    if lacking := [task for task in tasks if task not in figure_of(made, tasks, "ne")]:
        raise ExportRefusedError(f"quality: {where} gives no finite ne of {lacking[0]}")
    return {**made, "from": origin}


def _prior(path: Path | None, golden: GoldenBatch) -> Prior:
    if path is None:
        rate = golden.base_rate()
        return Prior(np.empty(0, np.int64), np.empty((0, len(rate)), np.float32), rate)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: list[NDArray[Any]] = [file[name] for name in ("ad", "probability", "default")]
    except Exception as error:  # junk makes the readers of zip and npy raise nearly anything
        raise ExportRefusedError(f"prior: {path}: {first_line(error)}") from error
    for array, dtype, axes in zip(arrays, (np.int64, np.float32, np.float32), (1, 2, 1), strict=True):
        if array.dtype != dtype or array.ndim != axes:
            raise ExportRefusedError(f"prior: {path}: ad int64 [A], probability float32 [A, T], default float32 [T]")
    return Prior(*arrays)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no figure")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
