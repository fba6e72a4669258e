"""Shared by all tests: a small schema with every kind of feature on every side, and a real Triton serving it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

from exfm.features.encoding import MISSING
from exfm.features.history import HistoryInputs, row_of
from exfm.features.schema import Feature, HistorySpec, Schema, Vertical
from exfm.features.signature import tensors_of
from exfm.features.values import key_of

if TYPE_CHECKING:
    from exfm.models.checkpoint import Checkpoint
    from serving.embedded.environment import TritonEnvironment
    from serving.embedded.process import EmbeddedTriton

Tensors = dict[str, NDArray[Any]]
MakeRequest = Callable[..., Tensors]
MakeCheckpoint = Callable[..., "Checkpoint"]
pytest_plugins = ["tests.kuairand_files"]
# The same examples in every run, and no clock that judges them: a test that fails fails again. New examples are looked
# for with `pytest --hypothesis-profile=default`.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")
_CITIES = ("berlin", "lyon", "oslo")


@pytest.fixture(scope="session")
def tiny_schema() -> Schema:
    """Two verticals, `feed_click` (two tasks) and `feed_long_view` (one, and fewer features)."""
    features = (
        Feature("user", "user", "id", buckets=50),
        Feature("city", "user", "category", vocabulary=_CITIES),
        Feature("age", "user", "number", boundaries=(18.0, 30.0, 50.0)),
        Feature("slot", "context", "id", buckets=9),
        Feature("tab", "context", "category", vocabulary=(0, 1, 2)),
        Feature("hour", "context", "number", boundaries=(6.0, 12.0, 18.0)),
        Feature("ad", "ad", "id", buckets=200),
        Feature("genre", "ad", "category", vocabulary=(10, 20, 30, 40)),
        Feature("length", "ad", "number", boundaries=(5.0, 15.0)),
    )
    names = tuple(feature.name for feature in features if feature.name not in ("slot", "length"))
    verticals = (
        Vertical("feed_click", ("click", "like"), budget_ms=250.0, max_candidates=500),
        Vertical("feed_long_view", ("long_view",), budget_ms=200.0, max_candidates=300, features=names),
    )
    return Schema("tiny", features, verticals)


@pytest.fixture(scope="session")
def make_request() -> MakeRequest:
    """`make_request(schema, candidates, seed=0)`: one random request by name of tensor, missing values among them."""

    def draw(rng: np.random.Generator, feature: Feature, rows: int) -> NDArray[Any]:
        if feature.kind == "number":
            return rng.uniform(-10.0, 60.0, rows)
        if feature.kind == "id":
            return np.where(rng.random(rows) < 0.1, MISSING, rng.integers(0, 10**9, rows))
        keys = [key_of(value) for value in feature.vocabulary]
        return rng.choice(np.array([*keys, 999_999, MISSING], np.int64), rows)

    def make(schema: Schema, candidates: int, seed: int = 0) -> Tensors:
        rng = np.random.default_rng(seed)
        made: Tensors = {}
        for tensor in tensors_of(schema):
            rows = candidates if tensor.per_candidate else 1
            if not tensor.blocks:
                assert schema.history
                made[tensor.name] = _history(rng, schema.history)
                continue
            columns = [draw(rng, feature, rows) for block in tensor.blocks for feature in block.features]
            made[tensor.name] = np.stack(columns, axis=1).astype(np.int64 if tensor.kind == "ids" else np.float32)
        return made

    return make


def _history(rng: np.random.Generator, spec: HistorySpec) -> NDArray[np.float32]:
    known = rng.random((1, spec.length)) < 0.7
    values = rng.uniform(-1, 1, (1, spec.length, spec.dimension)).astype(np.float32)
    ages_s = rng.uniform(0, 1e6, known.shape).astype(np.float32)
    return row_of(HistoryInputs(values * known[..., None], known, ages_s * known))


@pytest.fixture(scope="session")
def make_checkpoint(make_request: MakeRequest) -> MakeCheckpoint:
    """`make_checkpoint(schema, vertical, seed=0, backbone="dot", dimension=4, **history)`: a random student's complete
    checkpoint; further arguments are those of its history encoder."""

    def make(
        schema: Schema, vertical: str, seed: int = 0, backbone: str = "dot", dimension: int = 4, **history: Any
    ) -> "Checkpoint":
        import torch

        from exfm.models.checkpoint import Checkpoint, Prior
        from exfm.models.student import Student

        own = schema.for_vertical(vertical)
        rng = np.random.default_rng(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            student = Student(own, backbone, dimension, history=history)
            student.table.weight.data.normal_(std=0.5)
        prior = rng.uniform(0.01, 0.2, (20, len(own.tasks))).astype(np.float32)
        return Checkpoint(
            kind="student",
            schema=own,
            tasks=own.tasks,
            state=student.state_dict(),
            vertical=vertical,
            backbone=backbone,
            options={"dimension": dimension, "history": history},
            quality={"auc": 0.7, "ne": 0.9},
            lineage={"teacher": "none", "rows": 0},
            prior=Prior(np.arange(100, 120, dtype=np.int64), prior, prior.mean(0)),
            golden=make_request(own, 64, seed),
        )

    return make


@pytest.fixture(scope="session")
def published_repository(
    tiny_schema: Schema, make_checkpoint: MakeCheckpoint, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model repository with version 1 of both of `tiny_schema`'s verticals; not to be changed."""
    from exporter.export import export

    folder = tmp_path_factory.mktemp("published")
    for seed, vertical in enumerate(tiny_schema.verticals):
        path = folder / f"{vertical.name}.pt"
        make_checkpoint(tiny_schema, vertical.name, seed).save(path)
        export(path, folder / "repository")
    return folder / "repository"


@pytest.fixture(scope="session")
def triton_environment() -> "TritonEnvironment":
    """The embedded server's environment; built if it is missing, which takes half a minute and the network."""
    from serving.embedded.environment import ensure

    return ensure()


@pytest.fixture(scope="session")
def embedded_triton(
    triton_environment: "TritonEnvironment", published_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["EmbeddedTriton"]:
    """A real Triton with both verticals of `published_repository`; tests that hurt it start their own."""
    from serving.embedded.process import EmbeddedTriton

    log = tmp_path_factory.mktemp("triton") / "triton.log"
    with EmbeddedTriton(triton_environment, published_repository, ("feed_click", "feed_long_view"), log) as triton:
        yield triton


@pytest.fixture
def free_port() -> int:
    """A TCP port of the loopback that nobody had a moment ago."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def as_nobody() -> Callable[[Callable[[], object], type[Exception]], str]:
    """`as_nobody(work, error)`: what `work` says as it raises `error`, done by one whom modes of files bind."""
    import ctypes
    import os

    def run(work: Callable[[], object], error: type[Exception]) -> str:
        ours, theirs = os.pipe()
        child = os.fork()
        if not child:
            try:
                # Every capability is given up: version 3 of the interface, this process, three empty sets of 64.
                ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
                work()
                said = "it raised nothing"
            except error as raised:
                said = str(raised)
            except BaseException as raised:
                said = repr(raised)
            os.write(theirs, said.encode())
            os._exit(0)
        os.close(theirs)
        with os.fdopen(ours) as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        return said

    return run
