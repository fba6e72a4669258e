"""Version folders with an engine in them, as an export stages them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exfm.features.schema import Schema
from exfm.features.signature import tensors_of

if TYPE_CHECKING:
    from exfm.models.checkpoint import Checkpoint
    from exporter.engines.trial import EngineChoice
    from exporter.trace import ServedStudent

VERTICAL = "feed_click"
Staged = tuple[Path, "EngineChoice"]


@pytest.fixture(scope="session")
def own(tiny_schema: Schema) -> Schema:
    return tiny_schema.for_vertical(VERTICAL)


@pytest.fixture(scope="session")
def checkpoint(tiny_schema: Schema, make_checkpoint: Any) -> "Checkpoint":
    made: Checkpoint = make_checkpoint(tiny_schema, VERTICAL)
    return made


@pytest.fixture(scope="session")
def served(checkpoint: "Checkpoint") -> "ServedStudent":
    from exporter.trace import ServedStudent

    return ServedStudent(checkpoint.build_student()).eval()


@pytest.fixture(scope="session")
def stage(
    checkpoint: "Checkpoint", served: "ServedStudent", tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Staged]:
    """`stage(engine)`: a folder with that engine's files and the choice, made once; it skips where it cannot run."""
    from exporter.engines.table import SERVER_PACKAGES, choose_engine
    from exporter.errors import ExportRefusedError

    made: dict[str, Staged] = {}

    def of(engine: str) -> Staged:
        if engine not in made:
            folder = tmp_path_factory.mktemp(engine)
            packages = (*SERVER_PACKAGES, "torch")
            try:
                choice = choose_engine(
                    checkpoint, served, folder, engines=(engine,), buckets=(1,), server_packages=packages
                )
            except ExportRefusedError as error:
                if "this processor has none" in str(error) or "is not installed" in str(error):
                    pytest.skip(str(error))
                raise
            made[engine] = folder, choice
        return made[engine]

    return of


@pytest.fixture(scope="session")
def put(own: Schema) -> Callable[..., Path]:
    """`put(repository, ne=0.9, parameters=7, extra=b"run")`: publish a small version as the next one.

    It is whole for the exporter, and holds no model; signed with the repository's own key where it has one.
    """
    from exporter.configure import DEFAULT_BATCHING, model_config
    from exporter.profile import Latency
    from exporter.publish import Publication, publish
    from exporter.signing import load_signer
    from exporter.staging import staging

    tensors = [
        {"name": t.name, "dtype": {"ids": "int64"}.get(t.kind, "float32"), "width": t.width} for t in tensors_of(own)
    ]
    profile = {1: Latency(0.1, 0.2, 0.1), 200: Latency(0.5, 0.9, 0.6)}

    def make(repository: Path, *, ne: float | None = 0.9, parameters: int = 7, extra: bytes = b"run") -> Path:
        manifest = {
            "format": 1,
            "vertical": VERTICAL,
            "tasks": list(own.tasks),
            "schema_hash": own.digest,
            "budget_ms": 250.0,
            "tensors": tensors,
            "batching": DEFAULT_BATCHING.to_dict(),
            "parameters": parameters,
            "engine": "onnx",
            "parity": {"max_abs": 1e-7, "bound": 1e-5},
            "profile": {"buckets": {str(size): latency.to_dict() for size, latency in profile.items()}},
            "quality": {"auc": 0.7, "ne": ne, "tasks": {"like": {"ne": 0.8}}},
            "lineage": {"teacher": "none"},
            "created_utc": "2026-01-01T00:00:00+00:00",
        }
        config = model_config(own, 1, DEFAULT_BATCHING, engine="onnx", profile=profile)
        signer = load_signer(None, repository)
        with staging(repository) as folder:
            (folder / "schema.json").write_text(json.dumps(own.to_dict()), encoding="utf-8")
            (folder / "model.py").write_bytes(extra)
            (folder / "deep").mkdir()
            (folder / "deep" / "file").write_bytes(b"deep")
            return publish(folder, repository, Publication(VERTICAL, manifest, config, signer))

    return make


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    """A repository, empty but for a key of its own that it trusts."""
    from exporter.signing import OWN_KEY, make_key, trust

    repository = tmp_path / "signed"
    trust(repository, make_key(repository / OWN_KEY).key.public_key())
    return repository
