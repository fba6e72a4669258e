"""Engines behind a real Triton: the files an export stages, as it configures them."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from google.protobuf import text_format

from exfm.features.schema import Schema
from exfm.features.signature import OWNER, PROBABILITY
from exfm.models.checkpoint import Checkpoint
from exporter.configure import FORMERS, FRONTEND, WARM_UPS, Batching, Former, model_config
from exporter.golden import encode_request
from exporter.package import write_parts
from exporter.profile import Latency
from exporter.trace import ServedStudent
from exporter.verify import torch_probability

if TYPE_CHECKING:
    from serving.embedded.environment import TritonEnvironment
    from serving.embedded.process import EmbeddedTriton

ENGINES = ("onnx", "onnx_rows", "openvino_bf16")
WARM = (1, 333)


@pytest.fixture(scope="module")
def repository(
    stage: Callable[[str], tuple[Path, Any]],
    checkpoint: Checkpoint,
    served: ServedStudent,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    repository = tmp_path_factory.mktemp("engines")
    answer = torch_probability(served, encode_request(checkpoint.schema, checkpoint.golden))
    arrays = {"prior": vars(checkpoint.prior), "golden": {**checkpoint.golden, PROBABILITY: answer}}
    for engine, by in itertools.product(ENGINES, FORMERS):
        folder = repository / name_of(engine, by) / "1"
        shutil.copytree(stage(engine)[0], folder)
        write_parts(folder, checkpoint.schema, arrays)
        config = model_config(
            checkpoint.schema,
            1,
            Batching(instances=1, by=by),
            engine=engine,
            profile=dict.fromkeys(WARM, Latency(1.0, 1.0, 1.0)),
        )
        config.name = folder.parent.name
        (folder.parent / "config.pbtxt").write_text(text_format.MessageToString(config), encoding="utf-8")
    return repository


@pytest.fixture(scope="module")
def triton(triton_environment: "TritonEnvironment", repository: Path) -> Iterator["EmbeddedTriton"]:
    from serving.embedded.process import EmbeddedTriton, TritonOptions

    log, options = repository / "triton.log", TritonOptions(arguments=("--log-verbose=1",))
    names = [name_of(*form) for form in itertools.product(ENGINES, FORMERS)]
    with EmbeddedTriton(triton_environment, repository, names, log, options) as server:
        yield server


def name_of(engine: str, by: Former) -> str:
    return f"{engine}_by_{by}"


def ask(triton: "EmbeddedTriton", engine: str, by: Former, tensors: dict[str, Any]) -> Any:
    inputs, alone = [], by == FRONTEND
    if alone:
        tensors = {**tensors, OWNER: np.zeros(len(tensors["candidate_ids"]), np.int64)}
    for name, value in tensors.items():
        shaped = value[None] if name.startswith("candidate") and not alone else value
        inputs.append(triton_grpc.InferInput(name, shaped.shape, "INT64" if shaped.dtype == np.int64 else "FP32"))
        inputs[-1].set_data_from_numpy(shaped)
    answer = triton_grpc.InferenceServerClient(triton.address).infer(name_of(engine, by), inputs).as_numpy(PROBABILITY)
    return answer if alone else answer[0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("by", FORMERS)
@pytest.mark.parametrize("size", [1, 60, 500])
def test_tritons_scores_are_torchs_within_the_bound(
    *,
    triton: "EmbeddedTriton",
    stage: Callable[[str], tuple[Path, Any]],
    own: Schema,
    served: ServedStudent,
    make_request: Any,
    engine: str,
    by: Former,
    size: int,
) -> None:
    request = make_request(own, size, seed=size)
    exact = torch_probability(served, encode_request(own, request))
    np.testing.assert_allclose(ask(triton, engine, by, request), exact, atol=stage(engine)[1].bound, rtol=0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("by", FORMERS)
@pytest.mark.parametrize("size", WARM)
def test_each_bucket_was_run_before_the_model_was_ready(
    *, triton: "EmbeddedTriton", repository: Path, engine: str, by: Former, size: int
) -> None:
    name = name_of(engine, by)
    log = (repository / "triton.log").read_text(encoding="utf-8", errors="replace")
    ran = f"model '{name}' instance {name}_0_0 is running warmup sample '{size} candidates' for iteration {WARM_UPS}"
    assert ran in log
    assert triton.running


def test_the_configuration_says_what_runs(triton: "EmbeddedTriton") -> None:
    client = triton_grpc.InferenceServerClient(triton.address)
    config = client.get_model_config(name_of("onnx_rows", FRONTEND), as_json=True)["config"]
    assert config["parameters"]["engine"]["string_value"] == "onnx_rows"
