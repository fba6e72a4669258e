"""The published version that is served: where it lies, and what its requests look like."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.features.schema import Schema, SchemaError
from exfm.features.signature import HISTORY, PROBABILITY, tensors_of
from loadtest.peers.errors import ModelFolderError
from loadtest.peers.servers.scoring import Scoring

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Model:
    """One version of one vertical, as `exfm-export` wrote it.

    Attributes:
        folder: holds `model.onnx`, the schema and the encoding.
        schema: the vertical's own.
        manifest: as written.
        golden: a request's tensors by name, and under `probability` its answer, float32 [N, T]; of a student that reads
            histories with an empty one, since only the server's own store could send another.
        ads: keys that the prior knows, int64 [A].
    """

    folder: Path
    schema: Schema
    manifest: dict[str, Any]
    golden: dict[str, NDArray[Any]]
    ads: NDArray[np.int64]

    @property
    def repository(self) -> Path:
        """The model repository that holds the version."""
        return self.folder.parents[1]

    @property
    def vertical(self) -> str:
        """The vertical's name, which is also the model's in Triton."""
        return str(self.manifest["vertical"])

    @property
    def version(self) -> int:
        """The version's number."""
        return int(self.manifest["version"])

    @property
    def budget_s(self) -> float:
        """The vertical's budget."""
        return float(self.manifest["budget_ms"]) / 1e3

    @property
    def max_candidates(self) -> int:
        """The most candidates of one request."""
        return int(self.manifest["max_candidates"])

    @property
    def golden_bound(self) -> float:
        """How far the version's own engine may be off the golden answer, absolute; 0 if it doesn't say."""
        path = self.folder / "engine.json"
        return float(json.loads(path.read_text(encoding="utf-8"))["golden_bound"]) if path.is_file() else 0.0

    @property
    def tasks(self) -> int:
        """Columns of an answer."""
        return len(self.schema.tasks)


def find_model(repository: Path, vertical: str = "") -> Model:
    """The newest published version of `vertical`, by default of the first by name.

    Raises:
        ModelFolderError: there is none, or it is incomplete.
    """
    found = sorted(repository.glob(f"{vertical or '*'}/*/{MANIFEST}"), key=_by_name_then_newest)
    if not found:
        raise ModelFolderError(f"{repository}: no published version of {vertical or 'any vertical'}")
    return read_model(found[0].parent)


def read_model(folder: Path) -> Model:
    """The version in `folder`; `ModelFolderError` if a file is missing or unreadable."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        schema = Schema.load(folder / "schema.json")
        with np.load(folder / "golden.npz") as golden, np.load(folder / "prior.npz") as prior:
            arrays = {name: golden[name] for name in (*(t.name for t in tensors_of(schema)), PROBABILITY)}
            if schema.history:
                arrays = _without_history(folder, arrays, schema)
            return Model(folder.absolute(), schema, manifest, arrays, prior["ad"])
    except (OSError, ValueError, KeyError, SchemaError) as error:
        raise ModelFolderError(f"{folder}: {error}") from error


def _without_history(folder: Path, golden: dict[str, NDArray[Any]], schema: Schema) -> dict[str, NDArray[Any]]:
    """The golden request with an empty history, and what the version's graph answers to it."""
    asked = {**golden, HISTORY: np.zeros_like(golden[HISTORY])}
    body = b"".join(asked[tensor.name].tobytes() for tensor in tensors_of(schema))
    answer = np.frombuffer(Scoring(folder).score([body])[0], "<f4")
    return {**asked, PROBABILITY: answer.reshape(golden[PROBABILITY].shape)}


def _by_name_then_newest(manifest: Path) -> tuple[str, int]:
    version = manifest.parent.name
    return manifest.parents[1].name, -int(version) if version.isdecimal() else 0
